"""A CRM's export for harm.sh: whole, empty, halved, without some, with edits; and what the sandbox says.

harm.py make FILE COUNT | empty FILE | first FILE COUNT SOURCE | without FILE COUNT SOURCE | edit FILE COUNT WORD
harm.py held CONTACTS.jsonl UNSUBSCRIBED.json: "living N deleted N unsubscribed N"
"""
import csv
import json
import sys

COLUMNS = ["id", "email", "phone", "name", "town", "news", "tier"]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def make(path, count):
    # one in fifty wants no mail
    write(path, ({"id": n, "email": f"c{n}@example.com", "phone": f"+38067{n:07d}", "name": "Олена", "town": f"Town {n % 97}",
                  "news": "0" if n % 50 == 0 else "1", "tier": ["gold", "silver", "bronze"][n % 3]} for n in range(int(count))))


def empty(path):
    write(path, [])


def first(path, count, source):
    write(path, read(source)[: int(count)])


def without(path, count, source):
    write(path, read(source)[int(count):])


def edit(path, count, word):
    rows = read(path)
    for row in rows[-int(count):]:
        row["town"] = word
    write(path, rows)


def held(contacts, unsubscribed):
    with open(contacts, encoding="utf-8") as file:
        people = [json.loads(line) for line in file]
    with open(unsubscribed, encoding="utf-8") as file:
        addresses = json.load(file)
    addresses = addresses.get("unsubscribed", addresses) if isinstance(addresses, dict) else addresses
    deleted = sum(1 for person in people if person.get("deleted"))
    print(f"living {len(people) - deleted} deleted {deleted} unsubscribed {len(addresses)}")


MODES = {"make": make, "empty": empty, "first": first, "without": without, "edit": edit, "held": held}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:
        sys.exit(__doc__)
    MODES[sys.argv[1]](*sys.argv[2:])
