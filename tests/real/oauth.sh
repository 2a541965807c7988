#!/usr/bin/env bash
# A CRM's OAuth against a strict authorization server that nobody here wrote (Authlib): exact redirect, client secret, codes
# that work once, refresh tokens that rotate, a family that dies when an old one is used again. A person signs in with a form;
# the command takes the callback; a daemon renews for a dozen lives of a token; a server that has forgotten all is told of.
#
# The argument is how the client proves itself: basic or body.
# Needs curl and python3 with venv, and PyPI the first time. SYNC_BIN names the program, by default the debug build.
# Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
readonly client_auth=${1:-basic} lifetime=2 renewals=6
[ -x "$bin" ] || { echo "oauth.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
. "$here/stage.sh"
server_pid='' daemon_pid=''

finish() {
  local status=$? pid
  trap - EXIT
  for pid in $server_pid $daemon_pid; do kill "$pid" 2>/dev/null || true; done
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "oauth.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

venv=${XDG_CACHE_HOME:-$HOME/.cache}/reteno-sync-tests/strict-as
if ! cmp --silent "$here/strict-as.txt" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --no-deps --requirement "$here/strict-as.txt"
  cp "$here/strict-as.txt" "$venv/installed.txt"
fi

port=$(free_port) callback=$(free_port)
start_server() {
  "$venv/bin/python" "$here/strict_as.py" "$port" "$lifetime" "http://127.0.0.1:$callback/callback" >>"$work/server.log" 2>&1 &
  server_pid=$!
  wait_for "the authorization server" curl --silent "http://127.0.0.1:$port/api/me"
}

cat >"$work/config.toml" <<END
state_dir = "$work/state"

[listen]
address = "127.0.0.1:$callback"

[reteno]
api_url = "http://127.0.0.1:$port/none"
authorize_url = "http://127.0.0.1:$port/none"
token_url = "http://127.0.0.1:$port/none"
client_id = "none"
client_secret = "none"
redirect_uri = "http://127.0.0.1:$callback/callback"

[source.crm]
kind = "http"
base_url = "http://127.0.0.1:$port"
list = { path = "/api/people", records = "\$[*]" }
pagination = { kind = "none" }

[source.crm.contact]
externalCustomerId = "id"
email = "email"

[source.crm.auth]
kind = "oauth2"
authorize_url = "http://127.0.0.1:$port/authorize"
token_url = "http://127.0.0.1:$port/token"
client_auth = "$client_auth"
client_id = "sync"
client_secret = "s3cret"
scope = "contacts"
END

status() { "$bin" --config "$work/config.toml" status --output json; }
token() { status | python3 -c 'import json, sys; print(json.load(sys.stdin)["source_tokens"]["crm"]["'"$1"'"])'; }
has() { [ "$(token state)" = "$1" ]; }

start_server
"$bin" --config "$work/config.toml" --authorize --source crm </dev/null >"$work/authorize.out" 2>"$work/authorize.log" &
command_pid=$!
address() { grep -o -m 1 "http://127.0.0.1:$port/authorize[^[:space:]]*" "$work/authorize.out"; }
wait_for "the address" address
# curl is the browser of a person: it signs in, and is redirected to the command's own listener
curl --silent --show-error --location --data 'user=u&password=p' --output "$work/page.html" "$(address)"
grep -q 'Authorization done' "$work/page.html" || fail "the browser was shown: $(cat "$work/page.html")"
wait "$command_pid" || fail "authorize ended with $?: $(cat "$work/authorize.log")"
has authorized || fail "not authorized"
say "$client_auth: a person granted access, the command took the callback"

"$bin" --config "$work/config.toml" run >"$work/daemon.log" 2>&1 &
daemon_pid=$!
renewed() { [ "$(grep -c 'POST /token HTTP/1.1.*" 200' "$work/server.log")" -ge $((renewals + 1)) ]; }
wait_for "$renewals renewals" renewed
! grep -q 'POST /token HTTP/1.1.*" 4' "$work/server.log" || fail "the server refused a renewal"
has authorized || fail "not authorized after the renewals"
say "$client_auth: $renewals renewals, each with the token of the one before"

kill "$server_pid"; wait "$server_pid" 2>/dev/null || true
start_server
wait_for "the alert" has "needs authorization"
status | grep -q 'tokens-crm' || fail "no alert"
status | grep -q -- '--authorize --source crm' || fail "the alert does not name the command"
kill -TERM "$daemon_pid"
wait "$daemon_pid" || fail "the daemon ended with $?"
daemon_pid=''
say "$client_auth: a server that knows no token any more is told of, with the command"
