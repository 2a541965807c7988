#!/usr/bin/env bash
# A real system by description alone: an ERP (Tryton 8.2 on PostgreSQL) whose JSON-RPC nobody here wrote, read as
# kind = "http". An e-mail there stands in a table of its own with a date of its own: a cursor on the party alone misses
# its changes, and the description asks for both. First load, changes of e-mails alone, new ones, deletions.
#
# Needs a PostgreSQL server, python3 with venv, curl, and PyPI at the first run (kept in
# ${XDG_CACHE_HOME:-~/.cache}/reteno-sync-tests). SYNC_BIN names the program, by default the debug build.
# Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/reteno-sync-tests
[ -x "$bin" ] || { echo "tryton.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
chmod 711 "$work" # the server's user must be able to reach its directory below
server='' erp=''
. "$here/stage.sh"

finish() {
  local status=$?
  trap - EXIT
  [ -z "$erp" ] || kill "$erp" 2>/dev/null || true
  [ -z "$sandbox_pid" ] || kill "$sandbox_pid" 2>/dev/null || true
  [ -z "$server" ] || "$here/pg.sh" stop "$work/postgres" || true
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "tryton.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

start_erp() {
  local pg_port=$1
  psql --no-psqlrc --quiet --host 127.0.0.1 --port "$pg_port" --username postgres --command 'CREATE DATABASE tryton'
  printf '[database]\nuri = postgresql://postgres@127.0.0.1:%s/\n[web]\nlisten = 127.0.0.1:%s\n' "$pg_port" "$erp_port" >"$work/trytond.conf"
  echo adminpw >"$work/pw"
  TRYTONPASSFILE=$work/pw "$venv/bin/trytond-admin" -c "$work/trytond.conf" -d tryton --all --email admin@example.com >"$work/erp.log" 2>&1
  TRYTONPASSFILE=$work/pw "$venv/bin/trytond-admin" -c "$work/trytond.conf" -d tryton -u party --activate-dependencies >>"$work/erp.log" 2>&1
  "$venv/bin/trytond" -c "$work/trytond.conf" -d tryton >>"$work/erp.log" 2>&1 </dev/null &
  erp=$!
  wait_for "the ERP" curl --silent --output /dev/null "http://127.0.0.1:$erp_port/"
}

people() { "$venv/bin/python" "$here/tryton_people.py" "http://127.0.0.1:$erp_port/tryton/rpc/" "$@"; }

# The whole description: no line of Rust knows this system. WHERE is the condition of what has changed.
write_configuration() {
  cat "$work/reteno.toml" - >"$work/$1" <<END

[source.erp]
kind = "http"
base_url = "http://127.0.0.1:$erp_port/tryton"
key = "\$.id"
on_delete = "delete"

[source.erp.auth]
kind = "basic"
user = "admin"
password = "adminpw"

[source.erp.list]
path = "/rpc/"
records = "\$.result[*]"

[source.erp.list.body]
id = 1
method = "model.party.party.search_read"
params = [
  $2,
  "{offset}", "{page_size}", [["id", "ASC"]], ["name", "code", "email", "mobile"], {},
]

[source.erp.cursor]
path = "\$.write_date"
format = "%Y-%m-%d %H:%M:%S"
ordered = false
initial = "1970-01-01T00:00:00Z"
overlap = "0s"

[source.erp.pagination]
kind = "offset"
page_size = 100

[source.erp.contact]
externalCustomerId = "\$.id"
firstName = "first_word(\$.name)"
lastName = "other_words(\$.name)"
email = "\$.email"
sms = "\$.mobile"
END
}

sync() {
  local name=$1 status=0
  shift
  timeout 300 "$bin" --config "$work/config.toml" "$@" --wait 4m >"$work/$name.out" 2>"$work/$name.log" || status=$?
  [ "$status" -eq 0 ] || fail "$name: $* exited $status: $(tail -n 3 "$work/$name.log")"
  save_contacts "$name"
}

install_venv tryton --only-binary :all:
say "the ERP is installed"
pg_port=$(free_port)
erp_port=$(free_port)
server=started
"$here/pg.sh" start "$work/postgres" "$pg_port"
start_erp "$pg_port"
people make 120
say "the ERP serves 120 parties"

start_sandbox
write_configuration config.toml '["OR",
    [["create_date", ">=", "{start}"], ["create_date", "<", "{end}"]],
    [["write_date", ">=", "{start}"], ["write_date", "<", "{end}"]],
    [["contact_mechanisms.create_date", ">=", "{start}"], ["contact_mechanisms.create_date", "<", "{end}"]],
    [["contact_mechanisms.write_date", ">=", "{start}"], ["contact_mechanisms.write_date", "<", "{end}"]]]'
write_configuration party-alone.toml '["OR",
    [["create_date", ">=", "{start}"], ["create_date", "<", "{end}"]],
    [["write_date", ">=", "{start}"], ["write_date", "<", "{end}"]]]'
authorize
sync first sync
people compare "$work/first.jsonl" || fail "the first load is not what the ERP says"
say "first load: equal"

people change 12
people add 5
for config in config party-alone; do
  "$bin" --config "$work/$config.toml" --output json plan >"$work/$config.json" 2>"$work/$config.log" || fail "plan by $config"
done
sync second sync
people compare "$work/second.jsonl" || fail "a change of an e-mail alone was missed"
grep -q '17' "$work/second.out" || fail "the second run did not send 17 contacts: $(cat "$work/second.out")"
say "12 changed e-mails and 5 new parties: equal"
python3 - "$work/config.json" "$work/party-alone.json" <<'END' || fail "a cursor on the party alone sees changed e-mails too: the trap is gone"
import json, sys
both, alone = (json.load(open(path))["update"] for path in sys.argv[1:])
print(f"changed e-mails that plan sees: by both dates {both}, by the party's date alone {alone}")
sys.exit(0 if both > 0 and alone == 0 else 1)
END

people delete 3
sync third reconcile
sync fourth reconcile
people compare "$work/fourth.jsonl" || fail "the deleted parties are still held"
say "3 deleted parties: gone after two full reads"
say "done"
