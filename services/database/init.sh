#!/bin/sh
# Makes PostgreSQL's data directory, with the database `shop` in it.
#
# Everything is made under another name and renamed at the end: killed at any instant, it
# leaves nothing that the next run would take for done.
set -eu

data=/data/pgdata
draft=/data/pgdata.new
built=/tmp/pgdata # in memory: a third of the time that it takes where the data will lie
password=/run/secrets/postgres-password

[ -e "$data/PG_VERSION" ] && exit 0
rm -rf "$draft"
# Without TZ it compares this host's zone with every zone that there is. --no-sync: one sync at
# the end costs less than one for each file.
export TZ=UTC
initdb --pgdata="$built" --username=postgres --pwfile="$password" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions >/dev/null
# In single-user mode no socket is open, so nobody can connect to a half-made server. Renaming
# the database that initdb has made takes an eighth of the time that making another one does.
echo 'ALTER DATABASE postgres RENAME TO shop' |
    postgres --single -D "$built" -c fsync=off -c log_checkpoints=off template1 >/dev/null
cp -R "$built" "$draft"
sync -f "$draft" # everything on its file system, and not what others have to write elsewhere
mv "$draft" "$data"
