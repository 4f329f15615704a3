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
newest() { if [ -e "$1.next" ]; then echo "$1.next"; else echo "$1"; fi; }
enter_with() {
    (umask 077 && sed 's/[\\:]/\\&/g; s/^/*:*:*:*:/' "$1" >"$PGPASSFILE")
}

# -- what psql is told -------------------------------------------------------------------

roles() {
    for each in "postgres $POSTGRES_PASSWORD_FILE" "product $PRODUCT_PASSWORD_FILE" \
        "orders $ORDERS_PASSWORD_FILE" "monitoring $MONITORING_PASSWORD_FILE"; do
        cat <<SQL
\\set role ${each%% *}
\\set password \`cat '$(newest "${each#* }")'\`
SELECT format('%s ROLE %I LOGIN PASSWORD %L',
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') THEN 'ALTER' ELSE 'CREATE' END,
    :'role', :'password') \\gexec
SQL
    done
    # All statistics, no tables: https://www.postgresql.org/docs/15/predefined-roles.html
    echo "GRANT pg_monitor TO monitoring; ALTER ROLE monitoring CONNECTION LIMIT 3;"
}

migrations() {
    cat <<SQL
CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,
    name text NOT NULL, checksum text NOT NULL, applied_at timestamptz DEFAULT now());
SQL
    sha256sum migrations/*.sql | while read -r checksum path; do
        name=${path#migrations/}
        cat <<SQL
SELECT count(*) = 0 AS missing, coalesce(bool_or(checksum <> '$checksum'), false) AS changed
    FROM schema_migrations WHERE version = '${name%%_*}'::integer \\gset
\\if :missing
BEGIN;
\\i $path
INSERT INTO schema_migrations (version, name, checksum)
    VALUES ('${name%%_*}'::integer, '$name', '$checksum');
COMMIT;
\\echo applied: $name
\\elif :changed
DO \$\$ BEGIN RAISE '$name was changed after it had been applied'; END \$\$;
\\endif
SQL
    done
}

for path in migrations/*.sql; do
    case $path in
        migrations/[0-9][0-9][0-9]_*[!a-z0-9_]*.sql) fail "$path must be named NNN_words.sql" ;;
        migrations/[0-9][0-9][0-9]_?*.sql) ;;
        *) fail "$path must be named NNN_words.sql" ;;
    esac
done
enter_with "$POSTGRES_PASSWORD_FILE"
if [ -e "$POSTGRES_PASSWORD_FILE.next" ] && ! run --command='SELECT' 2>/dev/null; then
    enter_with "$POSTGRES_PASSWORD_FILE.next"
fi
{
    echo "SET client_min_messages = warning;"
    echo "SELECT FROM pg_advisory_lock($((0x53484F50))); -- \"SHOP\": a number that nobody else uses"
    roles
    migrations
} | run --file=- || fail "psql's message is above"
