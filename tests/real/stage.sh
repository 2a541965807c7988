# Sourced by the scripts of this folder: a sandbox Reteno on a free port, a configuration for it, an authorization.
# Needs $bin (the program) and $work (a directory of the caller's); sets $sandbox, $sandbox_pid, $authorize_pid.

sandbox_pid='' authorize_pid=''
readonly redirect=https://ops.example.com/callback

started=$SECONDS
say() { printf '%4d s  %s\n' "$((SECONDS - started))" "$*"; }
fail() { echo "${0##*/}: $*" >&2; exit 1; }

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until a command succeeds, at most 20 s.
wait_for() {
  local what=$1 tries
  shift
  for ((tries = 0; tries < 200; tries++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  fail "waited 20 s for $what"
}

# install_venv NAME PIP-OPTIONS...: a venv with what $here/NAME.txt lists, made once for each list and Python and kept in the
# cache; sets $venv. A half-made one has no mark and is made anew.
install_venv() {
  local name=$1 cache=${XDG_CACHE_HOME:-$HOME/.cache}/reteno-sync-tests key
  shift
  key=$(cat "$here/$name.txt" <(python3 -c 'import sys; print(sys.executable, sys.version)') | sha256sum | cut -c 1-16)
  venv=$cache/$name-$key
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    timeout 600 "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" --requirement "$here/$name.txt"
    touch "$venv/complete"
  fi
  exec 9>&-
}

# start_crm PEOPLE ARGUMENTS...: the sandbox CRM beside the sandbox, at $crm.
start_crm() {
  local port count=$1
  shift
  port=$(free_port)
  crm=http://127.0.0.1:$port
  start_sandbox --crm "127.0.0.1:$port" --people "$count" "$@"
}

# What a person does in the CRM: `act edit?count=5` and so on (src/sandbox/crm_api/admin.rs).
act() { curl --silent --show-error --fail --write-out "\n" "$crm/sandbox/$1"; }

# start_sandbox ARGUMENTS...: the sandbox, and what of it a configuration needs, in $work/reteno.toml.
start_sandbox() {
  local port
  port=$(free_port)
  sandbox=http://127.0.0.1:$port
  "$bin" sandbox --listen "127.0.0.1:$port" --redirect-uri "$redirect" "$@" >"$work/sandbox.log" 2>&1 &
  sandbox_pid=$!
  wait_for "the sandbox" curl --silent --fail "$sandbox/sandbox/calls.json"
  cat >"$work/reteno.toml" <<END
state_dir = "$work/state"

[listen]
address = "off"

[reteno]
api_url = "$sandbox/api"
authorize_url = "$sandbox/uaa/oauth/authorize"
token_url = "$sandbox/uaa/oauth/token"
client_id = "sandbox-client"
client_secret = "sandbox-secret"
redirect_uri = "$redirect"
END
}

# The sandbox allows the app at once where a person would press a button. Nobody listens at the redirect's address, so the
# first command leaves the authorization open (75) and the second one ends it.
authorize() {
  local url back
  timeout 60 "$bin" --config "$work/config.toml" --authorize </dev/null >"$work/authorize.out" 2>"$work/authorize.log" || true
  url=$(grep -o -m 1 "$sandbox/uaa/oauth/authorize[^[:space:]]*" "$work/authorize.out") || fail "no address was printed"
  back=$(curl --silent --show-error --output /dev/null --write-out '%{redirect_url}' "$url&auto=allow")
  [ -n "$back" ] || fail "the sandbox did not redirect from the consent page"
  timeout 60 "$bin" --config "$work/config.toml" --authorize --auth-response "$back" >>"$work/authorize.log" 2>&1 ||
    fail "--auth-response failed: $(tail -n 3 "$work/authorize.log")"
}

save_calls() { curl --silent --show-error --fail "$sandbox/sandbox/calls.json" >"$work/$1.json"; }
save_contacts() { curl --silent --show-error --fail "$sandbox/sandbox/contacts.jsonl" >"$work/$1.jsonl"; }
