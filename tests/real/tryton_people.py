"""Parties of a running Tryton 8.2, through its own client library.

tryton_people.py URL make N          N parties with an e-mail and a mobile each
tryton_people.py URL change N        of the first N parties the e-mail alone: that moves another table's date
tryton_people.py URL add N           N more
tryton_people.py URL delete N        the last N, with their e-mails
tryton_people.py URL list            all of them as {"id": {"email": …, "name": …}}
tryton_people.py URL compare FILE    whether the sandbox's contacts (JSON lines) are these; says how many
"""
import json
import sys

from proteus import Model, config

url, action = sys.argv[1], sys.argv[2]


def people(party):
    return {str(p.id): {"email": p.email or "", "name": p.name} for p in party.find([])}


def compare(held_path, wanted):
    held = {}
    with open(held_path, encoding="utf-8") as lines:
        for line in lines:
            contact = json.loads(line)
            if not contact.get("deleted"):
                held[contact["externalCustomerId"]] = contact
    wrong = [key for key, person in wanted.items()
             if key not in held or person["email"] not in json.dumps(held[key], ensure_ascii=False)]
    more = sorted(set(held) - set(wanted))
    print(f"{len(wanted)} parties, {len(held)} held, wrong {len(wrong)}, held and not there {len(more)}")
    sys.exit(1 if wrong or more else 0)


with config.set_xmlrpc_session(url, "admin", "adminpw"):
    Party = Model.get("party.party")
    Mechanism = Model.get("party.contact_mechanism")
    if action in ("make", "add"):
        begin = len(Party.find([]))
        for number in range(begin, begin + int(sys.argv[3])):
            party = Party(name="Соломія Лук'яненко", code=f"P{number}")
            party.contact_mechanisms.append(Mechanism(type="email", value=f"person{number}@example.com"))
            party.contact_mechanisms.append(Mechanism(type="mobile", value=f"+38067{number:07d}"))
            party.save()
    elif action == "change":
        for party in Party.find([], limit=int(sys.argv[3]), order=[("id", "ASC")]):
            before = party.write_date
            mechanism = next(m for m in party.contact_mechanisms if m.type == "email")
            mechanism.value = "changed." + mechanism.value
            mechanism.save()
            party.reload()
            # the trap that this is about: should it ever be gone, this test no longer shows it
            assert party.write_date == before, "the party's date moved with its e-mail"
    elif action == "delete":
        for party in Party.find([], limit=int(sys.argv[3]), order=[("id", "DESC")]):
            party.delete()
    elif action == "compare":
        compare(sys.argv[3], people(Party))
    else:
        print(json.dumps(people(Party), ensure_ascii=False))
