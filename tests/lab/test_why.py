"""`why` names the first broken layer and its node, for every fault of the matrix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import FAULTS, SERVICES
from names import next_name
from rig import World, run
from warm import Warm

# fault → (a service that feels it, the first broken layer, its node)
EXPECTED: dict[str, tuple[str, str, str]] = {
    **{
        fault: (name, "listener", f"service:{name}")
        for name in SERVICES
        for fault in (
            f"{name} killed with all its processes",
            f"{name}: its program killed",
            f"{name} hangs (SIGSTOP)",
        )
    },
    **{
        f"bridge's end of {name}'s veth set down": (name, "link", f"veth:{name}")
        for name in SERVICES
    },
    "inner end of order-service's veth set down": ("order-service", "link", "veth:order-service"),
    "veth of redis-cache deleted": ("redis-cache", "link", "veth:redis-cache"),
    "address of postgres-db removed": ("postgres-db", "link", "veth:postgres-db"),
    "default route of api-gateway removed": ("api-gateway", "route", "veth:api-gateway"),
    "address of the bridge removed": ("postgres-db", "bridge", "bridge:br-app"),
    "bridge set down": ("order-service", "bridge", "bridge:br-app"),
    "bridge deleted": ("api-gateway", "bridge", "bridge:br-app"),
    "port cut off from the bridge (partition)": (
        "product-service",
        "bridge",
        "veth:product-service",
    ),
    "name of order-service's namespace unmounted": (
        "order-service",
        "namespace",
        "netns:order-service",
    ),
    "nat table flushed": ("nginx-lb", "rules", "nat:rules"),
    "rules of FORWARD flushed": ("nginx-lb", "rules", "nat:rules"),
    "a rule that drops all put first in FORWARD": ("nginx-lb", "rules", "nat:rules"),
    "ip_forward turned off": ("nginx-lb", "sysctl", "sysctl:ip_forward"),
    "route_localnet turned off": ("nginx-lb", "sysctl", "bridge:br-app"),
}
# It is DROP on this host already: the platform is made to live with it.
HARMLESS = {"policy of FORWARD turned to DROP"}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    found = Warm()
    yield found
    found.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop without a supervisor, so that what is broken stays so."""
    world = World.build(next_name(), tmp_path_factory.mktemp("why"))
    try:
        world.orchestrator("up").ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in HARMLESS])
def test_first_broken_layer_is_named(shop: World, warm: Warm, fault: str) -> None:
    service, layer, node = EXPECTED[fault]
    FAULTS[fault](shop)
    try:
        questions = dict.fromkeys((service, "nginx-lb", ""))  # itself, what needs it, everything
        answers = warm.run(*(shop.words("why", "--json", *filter(None, [q])) for q in questions))
        for asked, answer in zip(questions, answers, strict=True):
            assert answer.code == 1, answer.text
            found = answer.json_of_failure()
            first = found["first_broken"]
            seen = (asked, first["layer"], first["node"], first["evidence"])
            assert seen[:3] == (asked, layer, node), seen
            assert first["verdict"] == "broken"
            assert first["evidence"]
            assert found["chain"][-1] == node
        shown = run("timeout", "5", "bash", "-c", first["command"])
        assert shown.code not in (126, 127, 255), f"{first['command']}: {shown.text}"
    finally:
        mended = warm.run(shop.words("replay"))[0]
    mended.ok()
