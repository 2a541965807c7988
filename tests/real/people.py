"""Invented contacts for crashes.sh: makes them, edits some, and compares them with what the sandbox holds.

people.py make FILE COUNT | edit FILE COUNT SEED | compare FILE CONTACTS.jsonl CALLS.json
"""
import csv
import json
import random
import sys

COLUMNS = ["id", "email", "phone", "name", "town"]
TOWNS = ["Київ", "Львів", "Одеса", "Харків", "Луцьк"]
DIFFERENCES_SHOWN = 10


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def make(path, count):
    write(path, ({"id": n, "email": f"c{n}@example.com", "phone": f"+38067{n:07d}", "name": "Олена", "town": TOWNS[n % 5]}
                 for n in range(int(count))))


def edit(path, count, seed):
    rows, draw = read(path), random.Random(int(seed))
    for row in draw.sample(rows, int(count)):
        row["town"] = f"{draw.choice(TOWNS)} {seed}"
    write(path, rows)


def compare(path, contacts, calls):
    wanted = {row["id"]: (row["email"], row["phone"].lstrip("+"), row["name"], row["town"]) for row in read(path)}
    held, doubled = {}, 0
    with open(contacts, encoding="utf-8") as file:
        for contact in map(json.loads, file):
            key = contact.get("externalCustomerId")
            doubled += key in held
            held[key] = (contact.get("email"), contact.get("sms"), contact.get("firstName"), contact.get("town"))
    wrong = [key for key in wanted if held.get(key) != wanted[key]]
    with open(calls, encoding="utf-8") as file:
        calls = json.load(file)
    for key in wrong[:DIFFERENCES_SHOWN]:
        print(f"  {key}: CRM {wanted[key]}, sandbox {held.get(key)}")
    different = calls["overlaps"]["different"]
    print(f"contacts wrong {len(wrong)} of {len(wanted)}, doubled {doubled}, unknown to the CRM {len(held.keys() - wanted.keys())}; "
          f"calls repeated {calls['bodies_repeated']}, contacts in two calls at once: different bodies {different}, "
          f"identical copies {calls['overlaps']['identical']}")
    return not wrong and not doubled and held.keys() == wanted.keys() and different == 0


MODES = {"make": make, "edit": edit, "compare": compare}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:
        sys.exit(__doc__)
    sys.exit(0 if MODES[sys.argv[1]](*sys.argv[2:]) in (None, True) else 1)
