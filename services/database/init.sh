#!/bin/sh
# Makes PostgreSQL's data directory: what cluster.sh makes, with this lab's password. If it is
# there, its password was lost, and it gets this one. No server may run meanwhile, and `up` sees to
# that: PostgreSQL's own lock tells by process numbers, and each sandbox has its own.
#
# Everything is made under another name and renamed at the end: killed at any instant, it
# leaves nothing that the next run would take for done.
set -eu

data=/data/pgdata
draft=/data/pgdata.new
password=/run/secrets/postgres-password

# In single-user mode no socket is open, so nobody can connect to a server without a password.
# A line is a command there; a password has no line ends, and its quotes are doubled. What fails
# there fails here, too: without exit_on_error it would go on and end with 0. With few buffers it
# starts in three quarters of the time.
set_password() { # DIRECTORY FSYNC
    [ -s "$password" ]
    {
        printf "ALTER ROLE postgres PASSWORD '"
        sed "s/'/''/g" "$password" | tr -d '\n'
        printf "'\n"
    } | postgres --single -D "$1" -c exit_on_error=on -c "fsync=$2" \
        -c log_checkpoints=off -c shared_buffers=1MB template1 >/dev/null
}

if [ -e "$data/PG_VERSION" ]; then
    set_password "$data" on
    exit
fi
rm -rf "$draft"
mkdir -m 700 "$draft"
if [ -f /dev/stdin ]; then # prepared on this machine before
    tar --extract --directory="$draft"
else # by way of a file: of a pipe only the last exit code counts
    sh "$(dirname "$0")/cluster.sh" >/tmp/cluster.tar
    tar --extract --directory="$draft" --file=/tmp/cluster.tar
fi
set_password "$draft" off
sync -f "$draft" # everything on its file system, and not what others have to write elsewhere
mv "$draft" "$data"
