"""Random stacks by seed: whatever is declared passes, whatever is not is refused."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from attempts import CONNECTED, LISTENER, Attempt, attempt_all, listeners
from rig import HOST_ADDRESS, OUTSIDE_ADDRESS, World

NETWORKS = {"br-one": "10.91.0", "br-two": "10.92.0"}
HIDDEN = ("9001/tcp", "9002/udp")  # everybody listens there; only flows that name them lead there
OUTSIDE_PORTS = ("443/tcp", "8443/tcp", "53/udp")
SEEDS = (1, 2)


@dataclass
class Drawn:
    """One service as it was drawn."""

    name: str
    addresses: dict[str, str]  # by network
    port: int
    published: int | None
    outbound: Any
    needs: list[str] = field(default_factory=list)

    @property
    def listens(self) -> list[str]:
        return [f"{self.port}/tcp", *HIDDEN]


@dataclass
class Platform:
    """A stack, and what may pass by its own words: (source, target, port with protocol)."""

    services: list[Drawn]
    flows: list[tuple[str, str, str | None]]

    @classmethod
    def draw(cls, seed: int) -> Platform:
        dice = random.Random(seed)
        services: list[Drawn] = []
        for number in range(7):
            chosen = dice.choice([["br-one"], ["br-two"], ["br-one", "br-two"]])
            services.append(
                Drawn(
                    name=f"s{number}",
                    addresses={net: f"{NETWORKS[net]}.{10 + number}" for net in chosen},
                    port=8000 + dice.randrange(3),
                    published=18000 + number if dice.random() < 0.3 else None,
                    outbound=dice.choice(["allowed", "denied", ["443/tcp"], [443, "53/udp"]]),
                    needs=[each.name for each in services if dice.random() < 0.3],
                )
            )
        flows = []
        for _ in range(6):
            source, target = dice.sample(services, 2)
            if source.addresses.keys() & target.addresses.keys():
                port = dice.choice([None, *HIDDEN])
                flows.append((source.name, target.name, port))
        return cls(services, [*flows, (services[0].name, "host", "9003/tcp")])

    def text(self) -> str:
        return yaml.safe_dump(
            {
                "name": "drawn",
                "networks": {n: {"address": f"{net}.1/24"} for n, net in NETWORKS.items()},
                "services": {
                    each.name: {
                        "networks": each.addresses,
                        "command": [
                            *("python", "/stack/listener.py"),
                            *(f"0.0.0.0/{port}" for port in each.listens),
                        ],
                        "needs": each.needs,
                        "outbound": each.outbound,
                        "ports": [f"{each.published}:{each.port}"] if each.published else [],
                        "readiness": {"tcp": each.port},
                    }
                    for each in self.services
                },
                "flows": [
                    {"from": source, "to": target, **({"ports": [port]} if port else {})}
                    for source, target, port in self.flows
                ],
                "supervision": {"port": 0},
            }
        )

    def may(self, source: str, target: Drawn, port: str) -> bool:
        if port == f"{target.port}/tcp":
            if source == "host":
                return True
            needs = next((each.needs for each in self.services if each.name == source), [])
            if target.name in needs or (source, target.name, None) in self.flows:
                return True
        return (source, target.name, port) in self.flows


@pytest.mark.parametrize("seed", SEEDS)
def test_random_stack_lets_exactly_its_flows_pass(world: World, tmp_path: Path, seed: int) -> None:
    platform = Platform.draw(seed)
    (tmp_path / "listener.py").write_text(LISTENER)
    stack = tmp_path / "stack.yaml"
    stack.write_text(platform.text())
    world.orchestrator("up", stack=stack).ok()
    world.outside_("ip", "route", "add", "10.88.0.0/13", "via", HOST_ADDRESS).ok()
    world.on_host("iptables", "-P", "FORWARD", "ACCEPT").ok()

    spaces = {each.name: f"{world.host}.{each.name}" for each in platform.services}
    names = {**spaces, "host": world.host, "outside": world.outside}
    nets = {each.name: set(each.addresses) for each in platform.services}
    wanted: dict[Attempt, bool] = {}
    for source, space in names.items():
        for target in platform.services:
            for network, address in target.addresses.items():
                for port in target.listens if source != target.name else ():
                    number, _, protocol = port.partition("/")
                    near = source == "host" or network in nets.get(source, ())
                    wanted[Attempt(space, address, int(number), protocol)] = near and platform.may(
                        source, target, port
                    )
    for each in platform.services:
        space = spaces[each.name]
        for port in OUTSIDE_PORTS:
            number, _, protocol = port.partition("/")
            listed = [f"{p}/tcp" if isinstance(p, int) else p for p in each.outbound]
            passes = each.outbound == "allowed" or port in listed
            wanted[Attempt(space, OUTSIDE_ADDRESS, int(number), protocol)] = passes
        for net in each.addresses:
            host = Attempt(space, f"{NETWORKS[net]}.1", 9003)
            wanted[host] = each.name == platform.services[0].name
            wanted[Attempt(space, f"{NETWORKS[net]}.1", 9004)] = False
    for each in platform.services:
        if each.published:
            wanted[Attempt(world.outside, HOST_ADDRESS, each.published)] = True
    assert 20 < sum(wanted.values()) < len(wanted) - 20

    outside = [f"0.0.0.0/{port}" for port in OUTSIDE_PORTS]
    with (
        listeners(world.outside, *outside),
        listeners(world.host, "0.0.0.0/9003/tcp", "0.0.0.0/9004/tcp"),
    ):
        ends = attempt_all(wanted)
    passed = {each for each, end in ends.items() if end == CONNECTED}
    assert passed == {each for each, may in wanted.items() if may}
