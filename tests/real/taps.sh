#!/usr/bin/env bash
# The sandbox CRM as clients see it that nobody here wrote: the unmodified tap-hubspot and tap-pipedrive read it over TLS
# under the vendors' own names, everything at first, and after edits by their STATE. So what our sources are tested
# against is what others expect of HubSpot and Pipedrive.
#
# Needs root (namespaces), openssl, iproute2, curl, python3 with venv, and PyPI at the first run. SYNC_BIN names the
# program, by default the debug build. After a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
readonly people=260
[ -x "$bin" ] || { echo "taps.sh: $bin is missing: cargo build --locked" >&2; exit 1; }
. "$here/stage.sh"

if [ -z "${OWN_HOST:-}" ]; then
  install_venv tap-hubspot
  export TAP_HUBSPOT=$venv
  install_venv tap-pipedrive
  export TAP_PIPEDRIVE=$venv
  say "taps installed"
  CERTIFI=$(echo "$TAP_HUBSPOT"/lib/python3*/site-packages/certifi/cacert.pem "$TAP_PIPEDRIVE"/lib/python3*/site-packages/certifi/cacert.pem)
  export CERTIFI
  LIMIT=90 exec "$here/own_host.sh" api.hubapi.com,api.pipedrive.com "$here/taps.sh"
fi

work=$(mktemp -d)
finish() {
  local status=$?
  trap - EXIT
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "taps.sh: failed; logs are in $work" >&2; fi
  exit "$status" # what was started ends with the namespace
}
trap finish EXIT
trap 'exit 130' INT TERM

taps() { python3 "$here/taps.py" "$@"; }

# run VENDOR NAME TAP ARGUMENTS...: one run of a tap; its messages in $work/VENDOR-NAME.jsonl, its STATE in
# $work/VENDOR-state.json.
run() {
  local vendor=$1 name=$2
  shift 2
  timeout 30 "$@" >"$work/$vendor-$name.jsonl" 2>"$work/$vendor-$name.log" ||
    fail "$vendor, $name run: $(tail -n 3 "$work/$vendor-$name.log")"
  taps state "$work/$vendor-$name.jsonl" >"$work/$vendor-state.json"
}

start_crm "$people"
python3 "$here/tls_front.py" 127.0.0.1:443 "${crm#http://}" &
wait_for "the TLS front" curl --silent --fail https://api.hubapi.com/sandbox/calls.json
say "the CRM with $people people answers as api.hubapi.com and api.pipedrive.com"

# A person allows the app, and what that gives is a refresh token, which is all the tap is told.
code=$(curl --silent --output /dev/null --write-out '%{redirect_url}' "https://api.hubapi.com/oauth/authorize?client_id=crm-client")
curl --silent --fail https://api.hubapi.com/oauth/2026-03/token --data-urlencode "redirect_uri=$redirect" \
  --data "grant_type=authorization_code&client_id=crm-client&client_secret=crm-secret&code=${code#*code=}" >"$work/tokens.json"
taps hubspot-config "$work/tokens.json" "$redirect" >"$work/hubspot.json"
echo '{"api_token": "crm-static-token", "start_date": "2020-01-01T00:00:00Z"}' >"$work/pipedrive.json"

hubspot=("$TAP_HUBSPOT/bin/tap-hubspot" --config "$work/hubspot.json")
pipedrive=("$TAP_PIPEDRIVE/bin/tap-pipedrive" --config "$work/pipedrive.json")
for vendor in hubspot pipedrive; do
  declare -n tap=$vendor
  timeout 30 "${tap[@]}" --discover >"$work/$vendor-all.json" 2>"$work/$vendor-discover.log" ||
    fail "$vendor: $(tail -n 3 "$work/$vendor-discover.log")"
done
taps select contacts "$work/hubspot-all.json" >"$work/hubspot-catalog.json"
taps select persons "$work/pipedrive-all.json" >"$work/pipedrive-catalog.json"
hubspot+=(--properties "$work/hubspot-catalog.json")
pipedrive+=(--catalog "$work/pipedrive-catalog.json")

act truth.jsonl >"$work/first-truth.jsonl"
run hubspot first "${hubspot[@]}"
run pipedrive first "${pipedrive[@]}"
for vendor in hubspot pipedrive; do taps check "$vendor" "$work/first-truth.jsonl" "$work/$vendor-first.jsonl"; done
say "all $people came out of both"

act 'edit?count=12' >"$work/changed.jsonl"
act 'add?count=3' >>"$work/changed.jsonl"
act 'delete?id=1001' >/dev/null
act truth.jsonl >"$work/second-truth.jsonl"
run hubspot second "${hubspot[@]}" --state "$work/hubspot-state.json"
run pipedrive second "${pipedrive[@]}" --state "$work/pipedrive-state.json"
for vendor in hubspot pipedrive; do
  taps check "$vendor" "$work/second-truth.jsonl" "$work/$vendor-first.jsonl" "$work/$vendor-second.jsonl" "$work/changed.jsonl"
done
say "12 edited and 3 added people came out by STATE"

act calls.json | taps calls
