"""Judges the sandbox by its own word: what it holds against the table, and what it was sent. Knows nothing of reteno-sync.

compare.py contacts TABLE.csv CONTACTS.jsonl
    TABLE.csv is the table (COPY ... CSV HEADER), CONTACTS.jsonl what /sandbox/contacts.jsonl answers.
compare.py calls BEFORE.json AFTER.json CONTACTS POSTS_MIN POSTS_MAX
    What /sandbox/calls.json answered before and after: exactly CONTACTS contacts were carried, in that many posts.
compare.py changes BEFORE.csv AFTER.csv CHANGED ADDED
    The test's own table: that many rows differ, that many are new.
"""

import csv
import json
import re
import sys

# Column of the table → how the sandbox names the field.
STANDARD = {"first_name": "firstName", "last_name": "lastName", "city": "town", "lang": "languageCode"}
ADDITIONAL = {"tier": "87166", "born": "87168", "orders": "87171"}
DIFFERENCES_SHOWN = 10


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def phone(text):
    """Digits with the country, as Reteno stores a phone; national numbers of the table are Ukrainian."""
    digits = re.sub(r"\D", "", text)
    return "38" + digits if digits.startswith("0") else digits


def expected(row):
    """What Reteno must hold for a row. An empty cell is a field that is not there."""
    fields = {"externalCustomerId": row["id"], "email": row["email"].lower(), "sms": phone(row["phone"])}
    fields |= {name: row[column] for column, name in STANDARD.items()}
    fields |= {name: row[column] for column, name in ADDITIONAL.items()}
    for name in ("firstName", "lastName"):
        fields[name] = re.sub("[‘’]", "'", fields[name])  # Reteno's rule for names knows the plain apostrophe only
    return {name: value for name, value in fields.items() if value}


def held(line):
    """What the sandbox holds, in the same shape. Its own id plays no part."""
    contact = json.loads(line)
    fields = {name: value for name, value in contact.items() if name not in ("id", "fields")} | contact["fields"]
    fields["sms"] = re.sub(r"\D", "", fields.get("sms") or "")
    return {name: str(value) for name, value in fields.items() if value not in (None, "", [], False)}


def compare_contacts(table, stored):
    wanted = {key: expected(row) for key, row in rows(table).items()}
    found, differences = {}, []
    with open(stored, encoding="utf-8") as file:
        for fields in map(held, file):
            key = fields.get("externalCustomerId")
            if key in found:
                differences.append(f"{key}: twice in the sandbox")
            found[key] = fields
    for key in sorted(wanted.keys() | found.keys(), key=str):
        want, have = wanted.get(key), found.get(key)
        if want is None or have is None:
            differences.append(f"{key}: {'not in the table' if want is None else 'missing in the sandbox'}")
            continue
        for name in sorted(want.keys() | have.keys()):
            if want.get(name) != have.get(name):
                differences.append(f"{key}: {name}: table {want.get(name)!r}, sandbox {have.get(name)!r}")
    for difference in differences[:DIFFERENCES_SHOWN]:
        print(f"  {difference}")
    print(f"contacts in the table {len(wanted)}, in the sandbox {len(found)}, differences {len(differences)}")
    return not differences and len(wanted) > 0


def compare_calls(before, after, contacts, posts_min, posts_max):
    with open(before, encoding="utf-8") as first, open(after, encoding="utf-8") as second:
        first, second = json.load(first), json.load(second)
    calls = {kind: count - first["calls"].get(kind, 0) for kind, count in sorted(second["calls"].items())}
    carried = second["contacts_carried"] - first["contacts_carried"]
    posts = calls.get("submit_contacts", 0)
    shown = ", ".join(f"{kind} {count}" for kind, count in calls.items() if count)
    print(f"contacts carried {carried} (expected {contacts}), calls: {shown or 'none'} (expected {posts_min} to {posts_max} posts)")
    return carried == int(contacts) and int(posts_min) <= posts <= int(posts_max)


def compare_changes(before, after, changed, added):
    first, second = rows(before), rows(after)
    differ = sum(1 for key in first if first[key] != second.get(key))
    more = len(second.keys() - first.keys())
    print(f"rows changed {differ} (expected {changed}), added {more} (expected {added})")
    return differ == int(changed) and more == int(added)


MODES = {"contacts": compare_contacts, "calls": compare_calls, "changes": compare_changes}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:
        sys.exit(__doc__)
    sys.exit(0 if MODES[sys.argv[1]](*sys.argv[2:]) else 1)
