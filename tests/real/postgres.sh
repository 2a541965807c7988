#!/usr/bin/env bash
# Real input: a PostgreSQL table of 20,000 contacts travels through a real Singer tap into the sandbox Reteno, three
# times: at first, after a day's changes, and with nothing changed. What counts is what the sandbox holds and was sent.
#
# Needs a PostgreSQL server, python3 with venv, curl, and PyPI at the first run (the tap is kept in
# ${XDG_CACHE_HOME:-~/.cache}/reteno-sync-tests). SYNC_BIN names the program, by default the debug build.
# Everything listens on loopback and is gone at the end; after a failure the logs stay and their place is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=tests/real
bin=${SYNC_BIN:-${CARGO_TARGET_DIR:-target}/debug/reteno-sync}
[ -x "$bin" ] || { echo "postgres.sh: $bin is missing: cargo build --locked" >&2; exit 1; }

work=$(mktemp -d)
chmod 711 "$work" # the server's user must be able to reach its directory below
server=''
. "$here/stage.sh"

# Ends what this script started, and nothing else.
finish() {
  local status=$?
  trap - EXIT
  [ -z "$sandbox_pid" ] || kill "$sandbox_pid" 2>/dev/null || true
  [ -z "$server" ] || "$here/pg.sh" stop "$work/postgres" || true
  if [ "$status" -eq 0 ]; then rm -rf "$work"; else echo "postgres.sh: failed; logs are in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

query() { psql --no-psqlrc --quiet --host 127.0.0.1 --port "$pg_port" --username postgres --set ON_ERROR_STOP=1 "$@"; }
save_table() { query crm --command "COPY (SELECT * FROM contact ORDER BY id) TO STDOUT (FORMAT csv, HEADER)" >"$work/$1.csv"; }
write_configuration() {
  cat >"$work/tap.json" <<END
{"host": "127.0.0.1", "port": $pg_port, "user": "postgres", "password": "none", "database": "crm", "filter_schemas": ["public"]}
END
  cat "$work/reteno.toml" - >"$work/config.toml" <<END

[source.crm]
kind = "singer"
command = ["$venv/bin/tap-postgres"]
config = "tap.json"
stream = "public-contact"
replication_key = "updated_at"
replication_method = "INCREMENTAL"

[source.crm.contact]
externalCustomerId = "id"
firstName = "first_name"
lastName = "last_name"
email = "email"
sms = { path = "phone", region = "UA" }
town = "city"
languageCode = "lang"

[source.crm.contact.fields]
87166 = "tier"
87168 = "born"
87171 = "orders"
END
  chmod 600 "$work/config.toml"
}

# One sync, judged by the sandbox. NAME of the run, contacts it must carry, fewest and most posts.
sync_and_compare() {
  local name=$1 contacts=$2 posts_min=$3 posts_max=$4 status=0
  save_table "$name"
  save_calls "$name-before"
  timeout 900 "$bin" --config "$work/config.toml" sync --wait 10m >"$work/$name.out" 2>"$work/$name.log" || status=$?
  say "$name: sync ended with $status"
  save_calls "$name-after"
  save_contacts "$name"
  python3 "$here/compare.py" calls "$work/$name-before.json" "$work/$name-after.json" "$contacts" "$posts_min" "$posts_max" ||
    fail "$name: not the calls that were needed"
  python3 "$here/compare.py" contacts "$work/$name.csv" "$work/$name.jsonl" ||
    fail "$name: the sandbox does not hold what the table says"
  [ "$status" -eq 0 ] || fail "$name: sync exited $status: $(tail -n 3 "$work/$name.log")"
}

install_venv tap-postgres --only-binary :all:
say "tap installed in $venv"

pg_port=$(free_port)
server=started
"$here/pg.sh" start "$work/postgres" "$pg_port"
query --command 'CREATE DATABASE crm'
query crm --file "$here/contacts.sql"
say "PostgreSQL on port $pg_port with 20,000 contacts"

start_sandbox
write_configuration
authorize
say "authorized at $sandbox"

# One post holds only contacts that have the same fields filled: a listed field without a value would be wiped. So the
# fewest posts are one for each set of filled columns (none is over 3,000 rows here); a window of what is due may end a
# batch early, which the factor of two allows for.
patterns() {
  query crm --tuples-only --no-align --command "SELECT count(DISTINCT (first_name IS NULL, last_name IS NULL, email IS NULL,
    phone IS NULL, city IS NULL, lang IS NULL, tier IS NULL, orders IS NULL, born IS NULL)) FROM contact WHERE $1"
}
posts=$(patterns true)
sync_and_compare first 20000 "$posts" "$((2 * posts))"

query crm --file "$here/changes.sql"
save_table changed
python3 "$here/compare.py" changes "$work/first.csv" "$work/changed.csv" 200 20
# The changed fields make five masks, the added contacts one for each set of filled columns; `sync` gathers each to one post.
posts=$((5 + $(patterns 'id > 20000')))
sync_and_compare second 220 5 "$posts"

sync_and_compare third 0 0 0
say "done"
