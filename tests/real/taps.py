"""What taps.sh asks of a tap's output: configurations, catalogs, STATE, and whether everybody came out.

usage: taps.py hubspot-config TOKENS REDIRECT | select STREAM CATALOG | state OUT |
       check VENDOR TRUTH FIRST [SECOND CHANGED] | calls"""

import json
import sys

# Beyond those that changed, a second run may repeat whoever stands at the bookmark, which taps read with >=.
REPEATED_MAX = 5
FIELDS = ["first_name", "last_name", "email", "phone", "town", "language", "tier"]


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def hubspot_config(tokens, redirect):
    return {
        "client_id": "crm-client",
        "client_secret": "crm-secret",
        "redirect_uri": redirect,
        "refresh_token": read(tokens)["refresh_token"],
        "start_date": "2020-01-01T00:00:00Z",
    }


def select(stream, catalog):
    catalog = read(catalog)
    chosen = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == stream]
    assert len(chosen) == 1, f"no stream {stream}"
    for part in chosen[0]["metadata"]:
        part["metadata"]["selected"] = True
    return catalog


def state(out):
    states = [message["value"] for message in lines(out) if message["type"] == "STATE"]
    assert states, f"no STATE in {out}"
    return states[-1]


def hubspot(record):
    """A record of tap-hubspot in the words of the truth."""
    value = record["properties"].get
    return {
        "first_name": value("firstname"),
        "last_name": value("lastname"),
        "email": value("email") or "",
        "phone": value("mobilephone") or "",
        "town": value("city"),
        "language": value("hs_language"),
        "tier": value("loyalty_tier") or "",
    }


def pipedrive(record):
    """A record of tap-pipedrive in the words of the truth."""

    def of(label, channels):
        return next((channel["value"] for channel in channels if channel["label"] == label), "")

    return {
        "first_name": record["first_name"],
        "last_name": record["last_name"],
        "email": of("home", record["emails"]),
        "phone": of("mobile", record["phones"]),
        "town": record["postal_address"]["locality"],
        "language": record["1f3a5b7c9d1f3a5b7c9d1f3a5b7c9d1f3a5b7c9d"],
        "tier": record["9dc80c50d78a15643bfc4ca79d76156a73a1ca0e"] or "",
    }


def records(vendor, out):
    found = [message["record"] for message in lines(out) if message["type"] == "RECORD"]
    return {int(record["id"]): {"hubspot": hubspot, "pipedrive": pipedrive}[vendor](record) for record in found}


def check(vendor, truth, first, second=None, changed=None):
    living = {person["id"]: person for person in lines(truth) if not person["deleted"]}
    seen = records(vendor, first)
    if second:
        later = records(vendor, second)
        expected = {number for act in lines(changed) for number in act["ids"]} & set(living)
        assert expected <= set(later), f"{vendor}: missed after the edit: {sorted(expected - set(later))}"
        assert len(later) <= len(expected) + REPEATED_MAX, f"{vendor}: {len(later)} records for {len(expected)} changes"
        seen.update(later)
    wrong = [number for number, person in living.items() if seen.get(number) != {key: person[key] for key in FIELDS}]
    assert not wrong, f"{vendor}: missing or different: {wrong[:10]}"
    gone = set(seen) - set(living)
    assert gone == ({1001} if second else set()), f"{vendor}: a tap cannot tell of the deleted, but: {gone}"


def calls():
    """Everything that the taps asked for is served."""
    seen = json.load(sys.stdin)
    refused = {call: count for call, count in seen.items() if not call.endswith((" 200", " 302"))}
    assert not refused, f"calls that were refused: {refused}"
    assert seen["POST /oauth/2026-03/token 200"] >= 3, "each run of tap-hubspot refreshes its token"


if __name__ == "__main__":
    answer = {
        "hubspot-config": hubspot_config,
        "select": select,
        "state": state,
        "check": check,
        "calls": calls,
    }[sys.argv[1]](*sys.argv[2:])
    if answer is not None:
        print(json.dumps(answer))
