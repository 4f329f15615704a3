#!/bin/bash
# The platform as a careful shell script starts it: the same programs and settings, each step
# when the one before it is ready, asked every 10 ms; no sandboxes.
# Usage: sequential.sh PREFIX WORKDIR SERVICES BIN   (on a host of its own, as root)
# Ends when a request through :8080 has reached the database. WORKDIR/stop.sh takes all away.
set -eu
prefix=$1 work=$2 code=$3 bin=$4
here=$(dirname "$0")
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH
export LANG=C.UTF-8

inside() { nsenter "--net=/run/netns/$prefix.$1" "${@:2}"; }
background() { # namespace, program…: its pid goes to the script that stops everything
    setsid nsenter "--net=/run/netns/$1" "${@:2}" >>"$work/log" 2>&1 </dev/null &
    echo "kill -KILL -- -$! 2>/dev/null" >>"$work/stop.sh"
}
until_ok() { until "$@" >/dev/null 2>&1; do sleep 0.01; done; }
as() { setpriv --reuid="$1" --clear-groups "${@:2}"; }

bash "$here/seed.sh" up "$prefix"
# localhost:8080 is answered too, and the FORWARD policy may be DROP.
iptables -t nat -A OUTPUT -p tcp --dport 8080 -m addrtype --dst-type LOCAL -j DNAT --to 10.0.0.10:80
iptables -t nat -A POSTROUTING -s 127.0.0.0/8 -o br-app -j MASQUERADE
iptables -I FORWARD -i br-app -o br-app -j ACCEPT
sysctl -qw net.ipv4.conf.br-app.route_localnet=1
ip netns add "$prefix.prometheus"
ip link add veth-prom type veth peer name veth-prom-br
ip link set veth-prom netns "$prefix.prometheus"
ip link set veth-prom-br master br-app
ip link set veth-prom-br up
inside prometheus ip addr add 10.0.0.70/16 dev veth-prom
inside prometheus ip link set veth-prom up
inside prometheus ip link set lo up
inside prometheus ip route add default via 10.0.0.1
for name in nginx-lb api-gateway product-service order-service redis-cache postgres-db; do
    inside "$name" sysctl -qw net.ipv4.ip_unprivileged_port_start=0
done

for name in postgres redis product orders monitoring; do echo "pw-$name" >"$work/$name"; done
chmod 644 "$work"/*

background "$prefix.redis-cache" redis-server --bind 0.0.0.0 --requirepass pw-redis --save "" \
    --appendonly yes --dir "$work"
until_ok env REDISCLI_AUTH=pw-redis nsenter "--net=/run/netns/$prefix.redis-cache" redis-cli ping

mkdir "$work/pg" && chown nobody "$work/pg"
as nobody initdb --pgdata="$work/pg/data" --username=postgres --pwfile="$work/postgres" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions >/dev/null
sync -f "$work/pg"
# It will be killed: what it shares lies in its own directory, which goes with it, not in /dev/shm.
background "$prefix.postgres-db" setpriv --reuid=nobody --clear-groups postgres -D "$work/pg/data" \
    -c "config_file=$code/database/postgresql.conf" -c "hba_file=$code/database/pg_hba.conf" \
    -c dynamic_shared_memory_type=mmap -c "unix_socket_directories=$work/pg"
until_ok inside postgres-db pg_isready -h 10.0.0.60
PGPASSWORD=pw-postgres inside postgres-db psql -qh 10.0.0.60 -U postgres -d postgres \
    -c 'CREATE DATABASE shop'

export PYTHONPATH=$code DATABASE_HOST=10.0.0.60 REDIS_HOST=10.0.0.50 REDIS_USER=default
export POSTGRES_PASSWORD_FILE=$work/postgres REDIS_PASSWORD_FILE=$work/redis
export PRODUCT_PASSWORD_FILE=$work/product ORDERS_PASSWORD_FILE=$work/orders
export MONITORING_PASSWORD_FILE=$work/monitoring
inside postgres-db sh "$code/database/migrate.sh" >/dev/null

for each in product:product-service:30:product order:order-service:40:orders; do
    IFS=: read -r app name address user <<<"$each"
    DATABASE_USER=$user DATABASE_PASSWORD_FILE=$work/$user background "$prefix.$name" \
        "$bin/python" -P "$code/shared/serve.py" "$app.app"
    until_ok inside "$name" curl -sf "http://10.0.0.$address:5000/ready"
done
PRODUCT_URL=http://10.0.0.30:5000 ORDER_URL=http://10.0.0.40:5000 \
    background "$prefix.api-gateway" "$bin/python" "$code/gateway/app.py"
until_ok inside api-gateway curl -sf http://10.0.0.20:3000/health

cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    upstream gateway { server 10.0.0.20:3000; keepalive 32; }
    server {
        listen 80;
        location = /stub_status { stub_status; }
        location = /health { return 200 "OK\n"; }
        location / { proxy_pass http://gateway; proxy_http_version 1.1;
                     proxy_set_header Connection ""; proxy_set_header Host \$host; }
    }
}
CONF
background "$prefix.nginx-lb" nginx -c "$work/nginx.conf"
until_ok inside nginx-lb curl -sf http://10.0.0.10/health

exporter() { # port, command…: waits for it as well
    background "$prefix.prometheus" "${@:2}"
    until_ok inside prometheus curl -sf "http://127.0.0.1:$1/"
}
exporter 9113 prometheus-nginx-exporter -nginx.scrape-uri=http://10.0.0.10/stub_status
exporter 9121 prometheus-redis-exporter -redis.addr=redis://10.0.0.50:6379 -redis.password=pw-redis
DATA_SOURCE_URI="10.0.0.60:5432/shop?sslmode=disable" DATA_SOURCE_USER=monitoring \
    DATA_SOURCE_PASS_FILE=$work/monitoring exporter 9187 prometheus-postgres-exporter
{
    printf 'global: {scrape_interval: 15s}\nrule_files: [%s/monitoring/rules/*.yml]\n' "$code"
    echo 'scrape_configs:'
    for each in 70:9090 70:9113 70:9187 70:9121 20:9100 30:9100 40:9100; do
        printf '  - {job_name: "%s", static_configs: [{targets: ["10.0.0.%s"]}]}\n' "$each" "$each"
    done
} >"$work/prometheus.yml"
background "$prefix.prometheus" prometheus --config.file="$work/prometheus.yml" \
    --storage.tsdb.path="$work/prometheus" --web.listen-address=0.0.0.0:9090 --log.level=warn
until_ok inside prometheus curl -sf http://10.0.0.70:9090/-/ready

until_ok curl -sf -H 'Cache-Control: no-cache' http://localhost:8080/api/products
