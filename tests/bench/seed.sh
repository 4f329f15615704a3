#!/bin/bash
# The network of six with the textbook's commands, one after the other; or its removal.
# Usage: seed.sh up|down PREFIX   (on a host of its own: namespaces are called PREFIX.NAME)
set -e
verb=$1 prefix=$2

services="nginx-lb:nginx:10 api-gateway:gateway:20 product-service:product:30
order-service:order:40 redis-cache:redis:50 postgres-db:pg:60"

up() {
    local name short address each
    for each in $services; do
        IFS=: read -r name short address <<<"$each"
        ip netns add "$prefix.$name"
    done
    ip link add br-app type bridge
    ip addr add 10.0.0.1/16 dev br-app
    ip link set br-app up
    for each in $services; do
        IFS=: read -r name short address <<<"$each"
        ip link add "veth-$short" type veth peer name "veth-$short-br"
        ip link set "veth-$short" netns "$prefix.$name"
        ip link set "veth-$short-br" master br-app
        ip link set "veth-$short-br" up
        ip netns exec "$prefix.$name" ip addr add "10.0.0.$address/16" dev "veth-$short"
        ip netns exec "$prefix.$name" ip link set "veth-$short" up
        ip netns exec "$prefix.$name" ip link set lo up
        ip netns exec "$prefix.$name" ip route add default via 10.0.0.1
    done
    sysctl -qw net.ipv4.ip_forward=1
    iptables -t nat -A POSTROUTING -s 10.0.0.0/16 ! -o br-app -j MASQUERADE
    iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.10:80
    iptables -A FORWARD -p tcp -d 10.0.0.10 --dport 80 -j ACCEPT
}

down() {
    local name short address each
    iptables -D FORWARD -p tcp -d 10.0.0.10 --dport 80 -j ACCEPT
    iptables -t nat -D PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.10:80
    iptables -t nat -D POSTROUTING -s 10.0.0.0/16 ! -o br-app -j MASQUERADE
    sysctl -qw net.ipv4.ip_forward=0
    for each in $services; do
        IFS=: read -r name short address <<<"$each"
        ip link del "veth-$short-br"
        ip netns del "$prefix.$name"
    done
    ip link del br-app
}

"$verb"
