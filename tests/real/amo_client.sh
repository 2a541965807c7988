#!/usr/bin/env bash
# The sandbox CRM as amoCRM's own clients see it: two libraries from PyPI that nobody here wrote (amocrm-api, and the
# strictly typed aioamocrm, checked by its author against amoCRM's PHP SDK) exchange a code, page through everybody, read
# one contact, events and webhooks, and refresh their rotating tokens, over TLS under an account's own name.
#
# Needs root (namespaces), openssl, iproute2, curl, python3 with venv, and PyPI at the first run. SYNC_BIN names the
# program, by default the debug build. After a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
readonly host=examplecrm.amocrm.ru people=620
[ -x "$bin" ] || { echo "amo_client.sh: $bin is missing: cargo build --locked" >&2; exit 1; }
. "$here/stage.sh"

if [ -z "${OWN_HOST:-}" ]; then
  install_venv amo-client
  export AMO_CLIENT=$venv
  say "libraries installed"
  CERTIFI=$(echo "$AMO_CLIENT"/lib/python3*/site-packages/certifi/cacert.pem)
  export CERTIFI
  LIMIT=90 exec "$here/own_host.sh" "$host" "$here/amo_client.sh"
fi

work=$(mktemp -d)
finish() {
  local status=$?
  trap - EXIT
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "amo_client.sh: failed; logs are in $work" >&2; fi
  exit "$status" # what was started ends with the namespace
}
trap finish EXIT
trap 'exit 130' INT TERM

# Short-lived access tokens, so that a client has to refresh while it runs.
start_crm "$people" --crm-token-lifetime 3s
python3 "$here/tls_front.py" 127.0.0.1:443 "${crm#http://}" &
wait_for "the TLS front" curl --silent --fail "https://$host/sandbox/calls.json"
say "the CRM with $people people answers as $host"

for client in amocrm_api aioamocrm; do
  timeout 60 "$AMO_CLIENT/bin/python" "$here/amo_client.py" "$client" "$crm" "$redirect" >"$work/$client.log" 2>&1 ||
    fail "$client: $(tail -n 3 "$work/$client.log")"
  say "$client: $(tail -n 1 "$work/$client.log")"
done
act calls.json >"$work/calls.json"
grep -q '"POST /oauth2/access_token 401":1[,}]' "$work/calls.json" || fail "a refresh token worked twice: $(cat "$work/calls.json")"
