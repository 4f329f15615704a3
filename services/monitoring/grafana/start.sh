#!/bin/sh
# Starts Grafana from wherever it is installed: its own files lie beside its bin directory.
set -eu

if command -v grafana >/dev/null; then
    program=$(readlink -f "$(command -v grafana)")
    set -- server
else # before Grafana 9.4
    program=$(readlink -f "$(command -v grafana-server)")
    set --
fi
home=${program%/bin/*}
[ -e "$home/conf/defaults.ini" ] || home=/usr/share/grafana
exec "$program" "$@" --homepath="$home" --config=/run/grafana/grafana.ini
