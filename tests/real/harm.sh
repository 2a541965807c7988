#!/usr/bin/env bash
# Harm: a CRM of 10,000 contacts answers with nothing, with half, with 30 % fewer; its consent column is mapped the wrong way
# round; a field is mapped anew; an older checkpoint is put back. What is sent, what is held and what Reteno holds at last is
# compared with what must be.
#
# Needs curl and python3. SYNC_BIN names the program, by default the debug build. Everything listens on loopback and is gone
# at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
readonly contacts=10000
[ -x "$bin" ] || { echo "harm.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"

finish() {
  local status=$?
  trap - EXIT
  [ -z "$sandbox_pid" ] || kill "$sandbox_pid" 2>/dev/null || true
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "harm.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

crm() { local mode=$1; shift; python3 "$here/harm.py" "$mode" "$work/contacts.csv" "$@"; }
posts() { curl --silent --fail "$sandbox/sandbox/calls.json" | python3 -c 'import json, sys; print(json.load(sys.stdin)["calls"].get("'"$1"'", 0))'; }
alerts() { "$bin" --config "$work/config.toml" status --output json | python3 -c 'import json, sys
for alert in json.load(sys.stdin)["alerts"]: print("        alert:", alert["text"])'; }

# configure CONSENT FIELDS: the configuration with how consent is read and with further mapped fields.
configure() {
  cat "$work/reteno.toml" - >"$work/config.toml" <<END

[source.crm]
kind = "file"
path = "contacts.csv"
on_delete = "delete"

[source.crm.consent]
email = $1

# who was gone and is back is seen for the first time again, and so are the opt-outs among them
[source.crm.guard]
unsubscribe = { contacts = 800, percent = 8 }

[source.crm.segments]
"CRM" = "always"

[source.crm.contact]
externalCustomerId = "id"
email = "email"
sms = "phone"
firstName = "name"
town = "town"
$2
END
}

# synced CODE WHAT: a run must end with CODE.
synced() {
  local status=0
  timeout 300 "$bin" --config "$work/config.toml" sync --wait 4m >>"$work/sync.out" 2>>"$work/sync.log" || status=$?
  [ "$status" -eq "$1" ] || fail "$2: sync ended with $status, not $1: $(tail -n 3 "$work/sync.log")"
}

# holds "living N deleted N unsubscribed N": what the sandbox must hold.
holds() {
  save_contacts now
  curl --silent --show-error --fail "$sandbox/sandbox/unsubscribed.json" >"$work/now.json"
  local found
  found=$(python3 "$here/harm.py" held "$work/now.jsonl" "$work/now.json")
  [ "$found" = "$1" ] || fail "the sandbox holds: $found, not: $1"
}

start_sandbox
configure '"news"' ''
crm make "$contacts"
cp "$work/contacts.csv" "$work/whole.csv"
authorize

synced 0 "first load"
holds "living 10000 deleted 0 unsubscribed 200"
say "first load: 10,000 made, 200 who want no mail unsubscribed, in $(posts submit_contacts) posts"
cp "$work/state/reteno-sync.db" "$work/week-old.db"

crm empty; synced 0 "an empty export"; synced 0 "an empty export"
holds "living 10000 deleted 0 unsubscribed 200"
say "empty export, twice: nothing sent, nobody gone"

crm first 5000 "$work/whole.csv"; synced 0 "half, for the first time"; synced 4 "half, for the second time"
holds "living 10000 deleted 0 unsubscribed 200"
say "half the contacts, twice: nothing deleted, exit 4"; alerts
cp "$work/whole.csv" "$work/contacts.csv"; synced 0 "whole again"
[ -z "$(alerts)" ] || fail "an alert stays although the CRM took it back: $(alerts)"
say "whole again: the hold has lapsed"

crm without 3000 "$work/whole.csv"; crm edit 40 Lviv; synced 0 "30 % fewer"; synced 4 "30 % fewer, again"
holds "living 10000 deleted 0 unsubscribed 200"
[ "$(grep -c '"town":"Lviv"' "$work/now.jsonl")" -eq 40 ] || fail "the edits beside what is held did not go out"
say "30 % fewer and 40 edits, twice: 40 edits sent, nothing deleted, exit 4"; alerts
cp "$work/whole.csv" "$work/contacts.csv"; synced 0 "whole again"

crm without 20 "$work/whole.csv"; synced 0 "20 fewer"; synced 0 "20 fewer, again"
holds "living 9980 deleted 20 unsubscribed 200"
cp "$work/whole.csv" "$work/contacts.csv"; synced 0 "the 20 are back"
holds "living 10000 deleted 0 unsubscribed 200"
say "20 fewer, twice: 20 deleted; back in the CRM: 20 restored"

before=$(posts submit_contacts)
configure '"news"' 'fields.87166 = "tier"'
"$bin" --config "$work/config.toml" plan >"$work/plan.txt" 2>>"$work/sync.log"
sed 's/^/        /' "$work/plan.txt" | head -n 24
synced 0 "a new field"
grep -q '10000 contacts become due (additional field 87166 of 10000), in 4 calls' "$work/sync.log" ||
  fail "the log does not say what the changed mapping made due"
save_contacts now
[ "$(grep -c '"87166"' "$work/now.jsonl")" -eq "$contacts" ] || fail "the new field is not everywhere"
say "a field mapped anew over 10,000 contacts: $(($(posts submit_contacts) - before)) posts"

configure '{ path = "news", yes = ["0"], no = ["1"] }' 'fields.87166 = "tier"'
synced 4 "consent the wrong way round"
holds "living 10000 deleted 0 unsubscribed 200"
say "consent mapped the wrong way round: nobody unsubscribed, nobody resubscribed, exit 4"; alerts
configure '"news"' 'fields.87166 = "tier"'
synced 0 "consent mended"
holds "living 10000 deleted 0 unsubscribed 200"

cp "$work/week-old.db" "$work/state/reteno-sync.db"; rm -f "$work/state/generation" "$work/state/reteno-sync.db-wal" "$work/state/reteno-sync.db-shm"
before=$(posts submit_contacts)
synced 4 "a week-old checkpoint"
holds "living 10000 deleted 0 unsubscribed 200"
[ "$(posts resubscribe)" -eq 0 ] || fail "somebody was resubscribed"
say "a week-old checkpoint: $(($(posts submit_contacts) - before)) posts, nobody deleted, nobody resubscribed, opt-outs held"; alerts
hold=$("$bin" --config "$work/config.toml" approve --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["holds"][0]["id"])')
"$bin" --config "$work/config.toml" approve "$hold" --yes >>"$work/sync.out" 2>>"$work/sync.log"
synced 0 "after the approval"
holds "living 10000 deleted 0 unsubscribed 200"
save_calls end
say "approved: $(posts unsubscribe) calls of unsubscribe, $(posts resubscribe) of resubscribe in all"
say "done"
