#!/bin/sh
# Makes Redis take exactly the passwords that lie in /run/secrets: each account's, and while it
# is being rotated its next one too. Who is connected stays so.
set -eu
cd /run/secrets

commands() {
    printf 'AUTH admin %s\n' "$(cat redis-admin-password)"
    for file in redis-*-password; do
        user=${file#redis-}
        printf 'ACL SETUSER %s resetpass' "${user%-password}"
        for each in "$file" "$file.next"; do
            [ ! -e "$each" ] || printf ' #%s' "$(printf %s "$(cat "$each")" | sha256sum | cut -d' ' -f1)"
        done
        printf '\n'
    done
}

answers=$(commands | redis-cli -h redis-cache)
if echo "$answers" | grep -v '^OK$'; then exit 1; fi
