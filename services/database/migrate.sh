#!/bin/sh
# Brings the database's schema and roles to where the services need them. Safe to repeat.
#
# Each file of migrations/ is applied once, in its own transaction, and remembered with its
# checksum; roles get their present passwords every time. By psql: everything waits for this,
# and Python would take 130 ms only to load its driver.
set -eu
cd "$(dirname "$0")"
export PGHOST="$DATABASE_HOST" PGPORT="${DATABASE_PORT:-5432}" PGDATABASE="${DATABASE_NAME:-shop}"
export PGUSER=postgres PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=5 PGPASSFILE=/tmp/.pgpass

fail() {
    echo "cannot migrate: $1" >&2
    exit 1
}

run() { psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"; }

# The file with the secret to be: the next one while it is being rotated. That the server knows
# it yet is not said, so as the superuser both are tried.
newest() { if [ -e "$1.next" ]; then file=$1.next; else file=$1; fi; }
enter_with() {
    (umask 077 && sed 's/[\\:]/\\&/g; s/^/*:*:*:*:/' "$1" >"$PGPASSFILE")
}

# -- what psql is told, put together by the shell alone: each program that it runs is waited for --

roles=
role() { # NAME FILE-WITH-ITS-PASSWORD
    newest "$2"
    IFS= read -r password <"$file" || [ -n "$password" ] || fail "$file is empty"
    case $password in *'$secret$'*) fail "\$secret\$ stands in $file" ;; esac
    roles="$roles
SELECT format('%s ROLE %I LOGIN PASSWORD %L',
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = '$1') THEN 'ALTER' ELSE 'CREATE' END,
    '$1', \$secret\$$password\$secret\$) \\gexec"
}

migrations='
CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,
    name text NOT NULL, checksum text NOT NULL, applied_at timestamptz DEFAULT now());'
migration() { # CHECKSUM PATH
    name=${2#migrations/}
    version="'${name%%_*}'::integer"
    migrations="$migrations
SELECT count(*) = 0 AS missing, coalesce(bool_or(checksum <> '$1'), false) AS changed
    FROM schema_migrations WHERE version = $version \\gset
\\if :missing
BEGIN;
\\i $2
INSERT INTO schema_migrations (version, name, checksum) VALUES ($version, '$name', '$1');
COMMIT;
\\echo applied: $name
\\elif :changed
DO \$\$ BEGIN RAISE '$name was changed after it had been applied'; END \$\$;
\\endif"
}

for path in migrations/*.sql; do
    case $path in
        migrations/[0-9][0-9][0-9]_*[!a-z0-9_]*.sql) fail "$path must be named NNN_words.sql" ;;
        migrations/[0-9][0-9][0-9]_?*.sql) ;;
        *) fail "$path must be named NNN_words.sql" ;;
    esac
done
role postgres "$POSTGRES_PASSWORD_FILE"
role product "$PRODUCT_PASSWORD_FILE"
role orders "$ORDERS_PASSWORD_FILE"
role monitoring "$MONITORING_PASSWORD_FILE"
sums=$(sha256sum migrations/*.sql)
while read -r checksum path; do
    migration "$checksum" "$path"
done <<SUMS
$sums
SUMS

enter_with "$POSTGRES_PASSWORD_FILE"
if [ -e "$POSTGRES_PASSWORD_FILE.next" ] && ! run --command='SELECT' 2>/dev/null; then
    enter_with "$POSTGRES_PASSWORD_FILE.next"
fi
# The number of the lock is "SHOP", which nobody else uses. All statistics, no tables:
# https://www.postgresql.org/docs/15/predefined-roles.html
run --file=- <<SQL || fail "psql's message is above"
SET client_min_messages = warning;
SELECT FROM pg_advisory_lock($((0x53484F50)));
$roles
GRANT pg_monitor TO monitoring; ALTER ROLE monitoring CONNECTION LIMIT 3;
$migrations
SQL
