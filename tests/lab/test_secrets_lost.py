"""Secrets that somebody deleted: they come back as they were; or they are made anew, and whoever
has them learns that."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from faults import program
from passwords import (
    ROLES,
    THROW_OUT,
    assert_only_these_hold,
    kept,
    may_enter_redis,
    psql,
)
from rig import ROOT, SHOP, World, eventually, run


def crash(world: World, command: str, at: int) -> None:
    """The command dies at the n-th record of its journal."""
    words = [world.host, world.state, world.run_dir, world.stack]
    killed = run(sys.executable, ROOT / "tests" / "crash.py", command, str(at), *words)
    assert killed.code == -signal.SIGKILL


def places(world: World) -> list[Path]:
    return [place / f"shop@{world.host}" / "secrets" for place in (world.state, world.run_dir)]


def lose(world: World, names: Collection[str]) -> None:
    """And their copies, which are there as long as the lab is up."""
    for directory in places(world):
        for name in names:
            (directory / name).unlink(missing_ok=True)


def buy(world: World) -> int:
    body = json.dumps({"customer_id": "kept", "product_id": 1, "quantity": 1})
    words = ["-H", "Content-Type: application/json", "-d", body]
    made = world.curl("http://localhost:8080/api/orders", *words).ok().json()
    return int(made["order_id"])


def assert_whole(world: World, order: int) -> None:
    """Nobody is locked out, and whatever the database has been told is there."""
    superuser = kept(world)["postgres-password"]
    assert psql(world, "postgres", superuser, THROW_OUT)[0] == 0  # all have to enter anew
    assert world.orchestrator("verify").code == 0
    assert world.orchestrator("audit").code == 0
    found = world.curl(f"http://localhost:8080/api/orders/{order}").json()
    assert found["customer_id"] == "kept"
    assert "nothing was changed" in world.orchestrator("up").ok().out


@pytest.fixture
def lab(world: World) -> Iterator[World]:
    """A shop that is up and serves nobody else."""
    try:
        world.orchestrator("up").ok()
        yield world
    finally:
        world.orchestrator("down", "--volumes").ok()


def delete_secrets(world: World) -> None:
    shutil.rmtree(world.state / f"shop@{world.host}" / "secrets")


def delete_one(world: World) -> None:
    (world.state / f"shop@{world.host}" / "secrets" / "orders-password").unlink()


def delete_state(world: World) -> None:
    shutil.rmtree(world.state)


@pytest.mark.parametrize("delete", [delete_state, delete_secrets, delete_one])
def test_secret_that_somebody_deleted_comes_back_as_it_was(
    lab: World, delete: Callable[[World], None]
) -> None:
    """By `up`, also where the first try is killed; nobody watches the lab."""
    old = kept(lab)
    delete(lab)
    crash(lab, "up", 0)
    lab.orchestrator("up").ok()
    assert kept(lab) == old
    delete_one(lab)
    lab.orchestrator("replay", "order-service").ok()
    assert kept(lab) == old
    assert lab.orchestrator("verify").code == 0


@pytest.mark.parametrize("at", [10, 14])
def test_rotation_that_was_killed_and_lost_its_secrets_is_ended(shop: World, at: int) -> None:
    """Its servers take the next ones already, or only those."""
    old = kept(shop)
    crash(shop, "rotate", at)
    delete_secrets(shop)
    shop.orchestrator("up").ok()
    assert_only_these_hold(shop, old)


@pytest.mark.parametrize("what", [".rotation", "*.next"])
def test_rotation_that_was_killed_and_lost_its_state_is_ended(lab: World, what: str) -> None:
    """Its servers take the next ones already; there are no copies."""
    old, order = kept(lab), buy(lab)
    crash(lab, "rotate", 13)
    lose(lab, {path.name for place in places(lab) for path in place.glob(what)})
    lab.orchestrator("up").ok()
    assert_whole(lab, order)
    if what == ".rotation":
        assert_only_these_hold(lab, old)


def told(world: World, name: str = "orders-password") -> tuple[str, str]:
    """What the list says of a secret: in a word, and in its line."""
    rows = world.orchestrator("secrets", "list", "--json").json()
    [state] = [row["state"] for row in rows if row["secret"] == name]
    lines = world.orchestrator("secrets", "list").ok().out.splitlines()
    [line] = [line for line in lines if line.startswith(f"{name} ")]
    return state, line


def test_list_tells_one_that_was_deleted_from_one_that_was_never_made(world: World) -> None:
    """Of a lab that is up, with the copy and without; that is down and has data; and of none."""
    try:
        state, line = told(world)
        assert state == "not made yet"
        assert "not made yet" in line
        world.orchestrator("up").ok()
        assert told(world)[0] == "made"
        delete_one(world)
        state, line = told(world)
        assert state == "gone"
        assert line.endswith("  mend: `orchestrator up` brings it back as it was")
        lose(world, {"orders-password"})
        state, line = told(world)
        assert state == "gone"
        assert " gone " in line
        assert line.endswith("  mend: `orchestrator up` makes a new one and hands it on")
        world.orchestrator("down").ok()
        assert told(world)[0] == "gone"
        world.orchestrator("up").ok()
        assert told(world)[0] == "made"
    finally:
        world.orchestrator("down", "--volumes").ok()
    assert told(world)[0] == "not made yet"


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    "lost",
    [{"orders-password", "redis-gateway-password"}, {"postgres-password"}, set()],
    ids=["those of clients", "the superuser's", "all"],
)
def test_password_that_was_lost_with_its_copy_is_made_and_handed_on(
    lab: World, lost: set[str], is_up: bool
) -> None:
    old, order = kept(lab), buy(lab)
    lost = lost or {*old}
    if not is_up:
        lab.orchestrator("down").ok()
    lose(lab, lost)
    said = lab.orchestrator("up").ok()
    assert all(f"the secret {name} was not there" in said.err for name in lost)
    assert "already up" not in said.out
    new = kept(lab)
    assert {name for name, text in new.items() if text != old[name]} == lost
    assert_whole(lab, order)
    for role, name in ROLES.items():
        assert (psql(lab, role, old[name], "SELECT 1")[0] == 0) is (name not in lost)
    is_lost = "redis-gateway-password" in lost
    assert may_enter_redis(lab, "gateway", old["redis-gateway-password"]) is not is_lost


@pytest.mark.parametrize("at", [0, 6])
def test_handing_on_that_is_killed_is_done_by_the_next_up(lab: World, at: int) -> None:
    old, order = kept(lab), buy(lab)
    lose(lab, old)
    crash(lab, "up", at)
    lab.orchestrator("up").ok()
    assert not {*kept(lab).values()} & {*old.values()}
    assert_whole(lab, order)


def test_secrets_lost_with_all_data_are_handed_on_to_what_runs(lab: World) -> None:
    lose(lab, kept(lab))
    shutil.rmtree(lab.state)
    lab.orchestrator("up").ok()
    assert_whole(lab, buy(lab))


def test_what_lost_the_run_directory_is_started_anew(lab: World) -> None:
    order = buy(lab)
    shutil.rmtree(lab.run_dir)
    lab.orchestrator("up").ok()
    assert_whole(lab, order)
    assert Path("/proc", str(program(lab, "nginx-lb")), "root/etc/hosts").exists()


@pytest.mark.parametrize("words", [("replay", "postgres-db"), ("secrets", "rotate")], ids=" ".join)
def test_what_needs_a_lost_secret_is_refused_before_it_stops_anything(
    lab: World, words: tuple[str, ...]
) -> None:
    order, before = buy(lab), program(lab, "postgres-db")
    lose(lab, {"postgres-password"})
    for _ in range(2):  # the second after an `up` that could not hand it on
        refused = lab.orchestrator(*words)
        assert refused.code == 1
        assert "secrets were lost" in refused.err
        assert "mend: `orchestrator up" in refused.err
        assert program(lab, "postgres-db") == before
        crash(lab, "up", 0)
    lab.orchestrator("up").ok()
    assert_whole(lab, order)


def test_two_servers_never_have_one_data_directory(world: World, tmp_path: Path) -> None:
    """A healing comes while the job of a killed `up` still has it."""
    stack = shutil.copytree(SHOP.parent, tmp_path / "services") / SHOP.name
    world = dataclasses.replace(world, stack=stack)
    script = stack.parent / "database" / "init.sh"
    text = script.read_text()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def job() -> bool:
        return bool(world.marked("job:postgres-init\0"))

    try:
        world.orchestrator("up").ok()
        order = buy(world)
        lose(world, {"postgres-password"})
        script.write_text(text.replace('    set_password "$data" on\n', "    sleep 600\n"))
        with subprocess.Popen(world.words("up"), **quiet) as up:
            eventually(job)
            up.kill()
        words = [world.host, world.state, world.run_dir, stack]
        line = [sys.executable, ROOT / "tests" / "crash.py", "heal", "10000", *words]
        with subprocess.Popen(line, **quiet) as heal:
            assert job()
            while not world.sandbox_pids("postgres-db"):
                assert heal.poll() is None
            assert not job()
            heal.kill()
        script.write_text(text)
        world.orchestrator("up").ok()
        assert_whole(world, order)
    finally:
        world.orchestrator("down", "--volumes").ok()
