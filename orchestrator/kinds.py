"""Kinds of nodes: a node's name begins with its kind, as `veth:redis-cache`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.needs import Parting

LAYERS_OF_KINDS = {
    "mount": "bridge",
    "bridge": "bridge",
    "netns": "veths",
    "veth": "veths",
    "sysctl": "nat",
    "nat": "nat",
    "guard": "policy",
    "policy": "policy",
    "check": "edge",
}
PARTINGS = {  # by kinds of a node and its need
    ("policy", "netns"): Parting.WITH_NEED,
    ("veth", "bridge"): Parting.AT_ONCE,  # in one batch: the kernel waits once for both
}
# What goes after all of other kinds, though it needs none of them. A client on the way must hear of
# it: its request ends while there still is translation and forwarding, and once nobody listens any
# more it is refused, by the namespace until rules lead there no longer, by the host from then on.
OUTLIVED: Mapping[str, frozenset[str]] = {
    "nat": frozenset({"service"}),
    "sysctl": frozenset({"service"}),
    "veth": frozenset({"nat"}),
    "bridge": frozenset({"nat"}),
}


def kind_of(name: str) -> str:
    """Of the node with that name."""
    return name.partition(":")[0]


def partings(name: str, needs: Iterable[str]) -> dict[str, Parting]:
    """How the node goes with each of its needs, where it does not simply go first."""
    found = {need: PARTINGS.get((kind_of(name), kind_of(need))) for need in needs}
    return {need: parting for need, parting in found.items() if parting}


def outlived(name: str, names: Iterable[str]) -> frozenset[str]:
    """Which of the names are gone before the node with that name goes."""
    kinds = OUTLIVED.get(kind_of(name), frozenset())
    return frozenset(each for each in names if kind_of(each) in kinds)
