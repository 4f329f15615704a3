#!/usr/bin/env bash
# Installs what the platform needs: system packages (apt) and Python packages (.venv).
#
#   ./bootstrap.sh            what `make up` needs
#   ./bootstrap.sh --dev      also what `make test` and `make lint` need
#   ./bootstrap.sh --bench    that, and what `make bench` compares with, if it is packaged
#   PYTHON=python3.13 ./bootstrap.sh    makes .venv, where there is none, with that Python
#
# Only what is missing is installed. Server packages normally start themselves and enable
# themselves for the next boot; here neither may happen, because the lab runs its own copies
# inside namespaces and the host's ports belong to the host. A server that was there before
# is left exactly as it was.
set -euo pipefail
cd "$(dirname "$0")"
# A program that is asked whether it works may end by the same Ctrl-C, and with any exit code.
trap 'exit 130' INT
trap 'exit 143' TERM

dev=false bench=false
case ${1:-} in
    --dev) dev=true ;;
    --bench) dev=true bench=true ;;
esac

fail() { # message, exit code (3: this host cannot)
    printf 'bootstrap: %s\n' "$1" >&2
    exit "${2:-3}"
}

# -- system packages ---------------------------------------------------------------------

find_postgres() { ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -1; }

have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# A Python of 3.11 or newer that can make virtual environments: PYTHON if given, else the system's.
# Distributions build theirs with profile and link-time optimisation; one that somebody compiled
# in a home directory mostly is not, and loads the orchestrator in 145 ms instead of 80.
find_python() {
    local candidate candidates=(/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11)
    for candidate in ${PYTHON:-"${candidates[@]}"}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

missing=()
need() { have "$1" || missing+=("$2"); } # program, Debian package
need ip iproute2
need iptables-restore iptables
need nft nftables # to look at what guards the bridge; the lab itself does without
need nginx nginx-light
[ -e /usr/lib/nginx/modules/ngx_http_perl_module.so ] || missing+=(libnginx-mod-http-perl)
need redis-server redis-server
need prometheus prometheus
need bwrap bubblewrap
need setpriv util-linux
need curl curl
need ping iputils-ping
[ -n "$(find_postgres)" ] || missing+=(postgresql)
# The platform runs without these: its stack file leaves out what is not installed.
welcome=()
compgen -G '/usr/lib/*/libseccomp.so.2' >/dev/null || welcome+=(libseccomp2) # systemd has it too
for exporter in prometheus-nginx-exporter prometheus-postgres-exporter prometheus-redis-exporter; do
    have "$exporter" || welcome+=("$exporter")
done
if $dev; then
    need make make
    need sysctl procps
    need psql postgresql-client
    need ss iproute2
    need chromium-headless-shell chromium-headless-shell # a browser for the page's tests
fi
if $bench; then # Mininet, brctl for its Linux bridge, and a generator of load
    need wrk wrk
    have mn || welcome+=(mininet)
    have brctl || welcome+=(bridge-utils)
fi
if [ -z "${PYTHON:-}" ] && ! find_python >/dev/null; then
    # Ubuntu 22.04 ships 3.10 as python3 and 3.11 beside it.
    if [ "$(apt-cache policy python3.11-venv 2>/dev/null | grep -c 'Candidate: [0-9]')" -gt 0 ] &&
        ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        missing+=(python3.11 python3.11-venv)
    else
        missing+=(python3 python3-venv)
    fi
fi

# Counts, since grep -q would end apt-cache by SIGPIPE, which pipefail takes for a no.
is_packaged() { [ "$(apt-cache policy "$1" 2>/dev/null | grep -c 'Candidate: [0-9]')" -gt 0 ]; }

install_packages() {
    have apt-get || fail "cannot install ${missing[*]}: this host has no apt-get; install them by hand and run this again"
    [ "$(id -u)" = 0 ] || fail "cannot install ${missing[*]}: not root; run it with sudo, or install them by hand"
    echo "bootstrap: installing ${missing[*]}"

    # deb-systemd-invoke and invoke-rc.d ask policy-rc.d before they start anything (101: denied).
    local policy=/usr/sbin/policy-rc.d saved="" cluster_dir=/etc/postgresql-common/createcluster.d
    local no_cluster=$cluster_dir/orchestrator.conf made_dirs=()
    restore() {
        rm -f "$no_cluster"
        if [ -n "$saved" ]; then mv -f "$saved" "$policy"; else rm -f "$policy"; fi
        local dir
        for dir in "${made_dirs[@]}"; do rmdir --ignore-fail-on-non-empty "$dir" 2>/dev/null || true; done
    }
    if [ -e "$policy" ]; then
        saved=$(mktemp "$policy.XXXXXX")
        cp -p "$policy" "$saved"
    fi
    trap restore EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy.new"
    chmod 755 "$policy.new"
    mv -f "$policy.new" "$policy"

    # postgresql makes a cluster for itself on first installation; the lab makes its own.
    case " ${missing[*]} " in
        *" postgresql "*)
            local dir
            for dir in "$cluster_dir" /etc/postgresql-common; do [ -d "$dir" ] || made_dirs+=("$dir"); done
            mkdir -p "$cluster_dir"
            echo "create_main_cluster = false" >"$no_cluster"
            ;;
    esac

    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "bootstrap: apt-get update failed; trying with the lists that are here" >&2
    local package
    for package in "${welcome[@]}"; do
        if is_packaged "$package"; then missing+=("$package"); else
            echo "bootstrap: $package is not packaged for this system; what it is for is left out"
        fi
    done
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "cannot install ${missing[*]}: see apt-get's message above"

    # Not at the next boot either. Units of packages that were here before are not touched.
    if have systemctl && [ -d /run/systemd/system ] || [ -d /etc/systemd/system ]; then
        local unit
        for package in "${missing[@]}"; do
            case $package in
                nginx-light) unit=nginx.service ;;
                redis-server | postgresql | prometheus | prometheus-*-exporter | nftables)
                    unit=$package.service ;;
                *) continue ;;
            esac
            systemctl disable --quiet "$unit" >/dev/null 2>&1 || true
        done
    fi
    restore
    trap - EXIT
}

if [ ${#missing[@]} -gt 0 ]; then
    install_packages
else # what would only be nice to have is worth no failure
    for package in "${welcome[@]}"; do
        if [ "$(id -u)" = 0 ] && is_packaged "$package"; then missing+=("$package"); fi
    done
    welcome=()
    [ ${#missing[@]} -eq 0 ] || (install_packages) || echo "bootstrap: going on without ${missing[*]}"
fi

# -- Python packages ---------------------------------------------------------------------

lock=requirements.lock
$dev && lock=requirements-dev.lock
# The environment is made again when the lock changed or its Python is gone.
wanted=$(sha256sum requirements.lock "$lock" pyproject.toml | sha256sum | cut -d' ' -f1)
if ! { [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null; }; then
    python=$(find_python) ||
        fail "${PYTHON:-no Python here} is not 3.11 or newer with the modules venv and ensurepip"
    echo "bootstrap: making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
fi
stamp=.venv/lock-$($dev && echo dev || echo run)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "bootstrap: installing Python packages from $lock"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock" ||
        fail "cannot install the Python packages of $lock: see pip's message above"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e . ||
        fail "cannot install the orchestrator itself into .venv"
    echo "$wanted" >"$stamp"
fi
# Services may not write next to their code, and would compile it at every start; nor does the
# orchestrator where PYTHONDONTWRITEBYTECODE is set. After every change of the code.
if [ -n "$(find services orchestrator -name '*.py' -newer .venv/compiled 2>&1 | head -1)" ]; then
    touch .venv/compiled.new # before, so that what changes meanwhile is seen the next time
    .venv/bin/python -m compileall -q services orchestrator || true
    mv .venv/compiled.new .venv/compiled
fi

# -- what every new lab needs ----------------------------------------------------------------

# PostgreSQL's data directory as initdb makes it. Where it was looked at before PostgreSQL was
# installed, or is not there: the supervisor would make it as well, but only after the first `up`.
cache=${ORCHESTRATOR_CACHE_DIR:-/var/cache/orchestrator}
if [ "$(id -u)" = 0 ] && [ -n "$(find_postgres)" ] &&
    { [ -z "$(ls "$cache" 2>/dev/null)" ] ||
        [ -z "$(find "$cache" -maxdepth 0 -newermc "$(find_postgres)")" ]; }; then
    echo "bootstrap: preparing PostgreSQL's data directory for new labs in $cache"
    { .venv/bin/orchestrator prepare --cache-dir "$cache" >/dev/null && touch "$cache"; } ||
        echo "bootstrap: going on without; the first \`up\` takes longer" >&2
fi

# -- types of Grafana's schema, where npm is there to get them -----------------------------

types=tests/types
if $dev && have npm && ! cmp -s $types/package-lock.json $types/node_modules/.lock; then
    echo "bootstrap: installing Grafana's types from $types/package-lock.json"
    if npm ci --prefix $types --silent --no-audit --no-fund --ignore-scripts; then
        cp $types/package-lock.json $types/node_modules/.lock
    else
        echo "bootstrap: going on without; the dashboards' types are not checked" >&2
    fi
fi
