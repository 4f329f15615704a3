"""What is made once per machine: labs copy it, share no secret, and trust nothing damaged."""

from __future__ import annotations

import os
import signal
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from names import next_name
from rig import Done, World, eventually, sh

TINY = """\
name: tiny
networks: {br-tiny: {address: 10.20.0.1/24}}
services:
  box: {networks: {br-tiny: 10.20.0.10}, data: [/data], command: [sleep, infinity]}
jobs:
  make:
    of: box
    network: false
    command: [sh, -c, "if [ -f /dev/stdin ]; then cat; else echo none; fi > /data/made"]
    creates: /data/made
    prepared: {command: [sh, -c, "SCRIPT"]}
"""
RANDOM = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture
def cached(world: World, tmp_path: Path) -> World:
    """A world with a cache of its own, in which nothing is prepared yet."""
    return replace(world, cache=tmp_path / "cache")


@pytest.fixture
def other(cached: World, tmp_path: Path) -> Iterator[World]:
    """A second lab on the same machine, with the same cache."""
    place = tmp_path / "other"
    place.mkdir()
    built = replace(World.build(next_name(), place), cache=cached.cache)
    try:
        yield built
    finally:
        for stack in tmp_path.glob("*.yaml"):
            built.orchestrator("down", "--volumes", stack=stack)
        built.remove()


def prepared(world: World) -> list[Path]:
    found = world.cache.iterdir() if world.cache.exists() else ()
    return sorted(path for path in found if path.is_file())


def made(world: World) -> str:
    return (world.state / f"tiny@{world.host}" / "data" / "box" / "data" / "made").read_text()


def sleepers(world: World) -> set[int]:
    """Programs that prepare, and never end."""
    return {pid for pid, words in world.marked("") if words.startswith("sh -c echo half")}


def finding(world: World, stack: Path) -> str:
    rows = world.orchestrator("doctor", "--json", stack=stack).json()["findings"]
    (row,) = (row for row in rows if row["check"] == "prepared: job:make")
    return f"{row['level']}: {row['found']}"


def test_labs_begin_with_what_was_prepared_once(
    cached: World, other: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", RANDOM))
    assert finding(cached, stack).startswith("warn: not yet")
    cached.orchestrator("up", stack=stack).ok()
    assert made(cached) == "none\n"
    assert prepared(cached) == []  # `up` itself makes none: it would have to wait for it
    cached.orchestrator("down", "--volumes", stack=stack).ok()
    cached.orchestrator("prepare", stack=stack).ok()
    (path,) = prepared(cached)
    assert "there: " in cached.orchestrator("prepare", stack=stack).ok().out
    assert prepared(cached) == [path]
    assert finding(cached, stack).startswith("ok: in ")
    done: dict[str, Done] = {}

    def up(world: World) -> None:
        done[world.host] = world.orchestrator("up", stack=stack)

    both = [Thread(target=up, args=(each,)) for each in (cached, other)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.ok().code for each in done.values()] == [0, 0]
    assert made(cached) == made(other) == path.read_text()


def test_supervisor_prepares_what_was_missing(
    cached: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", RANDOM))
    cached.orchestrator("up", "--supervise", stack=stack).ok()
    eventually(lambda: prepared(cached) != [])
    cached.orchestrator("down", "--volumes", stack=stack).ok()
    assert not cached.sandboxes()


def test_down_ends_a_supervisor_that_prepares(
    cached: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", "echo half; sleep infinity"))
    before = cached.fingerprint()
    cached.orchestrator("up", "--supervise", stack=stack).ok()
    eventually(lambda: bool(sleepers(cached)))
    cached.orchestrator("down", "--volumes", stack=stack).ok()
    assert prepared(cached) == []
    assert cached.fingerprint() == before


def test_killed_while_preparing_leaves_nothing_that_is_taken_for_whole(
    cached: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", "echo half; sleep infinity"))
    process = cached.start("prepare", stack=stack)
    eventually(lambda: bool(sleepers(cached)))
    process.kill()
    process.communicate()
    assert prepared(cached) == []
    left = sleepers(cached)
    again = cached.start("prepare", stack=stack)
    eventually(lambda: bool(sleepers(cached) - left))
    assert not sleepers(cached) & left
    again.send_signal(signal.SIGTERM)
    again.communicate()
    assert (prepared(cached), cached.sandboxes()) == ([], [])


@pytest.mark.parametrize("host", ["there", "gone"])
def test_down_ends_what_a_killed_prepare_has_left(
    cached: World, write_stack: Callable[..., Path], host: str
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", "echo half; sleep infinity"))
    before = cached.fingerprint()
    if host == "there":
        cached.orchestrator("up", stack=stack).ok()
    process = cached.start("prepare", stack=stack)
    eventually(lambda: bool(sleepers(cached)))
    process.kill()
    process.communicate()
    assert sleepers(cached)
    if host == "gone":
        sh(f"ip netns del {cached.host}")
    cached.orchestrator("down", "--volumes", stack=stack).ok()
    assert (sleepers(cached), cached.sandboxes()) == (set(), [])
    assert not cached.run_dir.exists()
    if host == "gone":
        sh(f"ip netns add {cached.host}")
    else:
        assert cached.fingerprint() == before


@pytest.mark.parametrize("script", ["echo half; exit 3", "true"], ids=["failed", "wrote nothing"])
def test_what_failed_is_not_kept(
    cached: World, write_stack: Callable[..., Path], script: str
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", script))
    done = cached.orchestrator("prepare", stack=stack)
    assert (done.code, prepared(cached)) == (1, [])
    assert "cannot" in done.err
    cached.orchestrator("up", stack=stack).ok()
    assert made(cached) == "none\n"


def test_what_is_damaged_is_refused_told_and_replaced(
    cached: World, write_stack: Callable[..., Path]
) -> None:
    stack = write_stack(TINY.replace("SCRIPT", RANDOM))
    cached.orchestrator("prepare", stack=stack).ok()
    (path,) = prepared(cached)
    os.truncate(path, 7)
    assert "it is damaged" in finding(cached, stack)
    assert "it is damaged" in cached.orchestrator("up", stack=stack).ok().out
    assert made(cached) == "none\n"
    cached.orchestrator("prepare", stack=stack).ok()
    (fresh,) = prepared(cached)
    assert fresh.name != path.name
    assert finding(cached, stack).startswith("ok: ")


def test_another_command_is_another_key(cached: World, write_stack: Callable[..., Path]) -> None:
    cached.orchestrator("prepare", stack=write_stack(TINY.replace("SCRIPT", "echo old"))).ok()
    stack = write_stack(TINY.replace("SCRIPT", "echo new"))
    cached.orchestrator("up", stack=stack).ok()
    assert made(cached) == "none\n"
    cached.orchestrator("prepare", stack=stack).ok()
    assert sorted(path.read_text() for path in prepared(cached)) == ["new\n", "old\n"]


# -- the shop's database -------------------------------------------------------------------


def cluster_of(control: bytes) -> int:
    """PostgreSQL's system identifier: the first field of pg_control (catalog/pg_control.h)."""
    found: int = struct.unpack_from("<Q", control)[0]
    return found


def place_of(world: World) -> Path:
    return world.state / f"shop@{world.host}" / "data" / "postgres-db" / "data"


def test_databases_begin_alike_and_share_no_password(cached: World, other: World) -> None:
    for left in ("PG_VERSION", "half/of/a/copy"):  # of one that was killed
        path = place_of(cached) / "pgdata.new" / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("damaged")
    cached.orchestrator("prepare").ok()
    (archive,) = prepared(cached)
    try:
        for world in (cached, other):
            world.orchestrator("up").ok()
        with tarfile.open(archive) as tar:
            file = tar.extractfile("./global/pg_control")
            assert file is not None
            identifier = cluster_of(file.read())
        for world in (cached, other):
            control = place_of(world) / "pgdata" / "global" / "pg_control"
            assert cluster_of(control.read_bytes()) == identifier
            assert not (place_of(world) / "pgdata.new").exists()
        content = archive.read_bytes()
        assert b"SCRAM-SHA-256$" not in content
        passwords = [
            (world.state / f"shop@{world.host}" / "secrets" / "postgres-password").read_text()
            for world in (cached, other)
        ]
        assert len(set(passwords)) == 2
        # The readiness of each has proven its own; the other's opens nothing.
        for world, password, opens in (
            (cached, passwords[0], True),
            (cached, passwords[1], False),
            (other, passwords[0], False),
        ):
            line = f"PGPASSWORD={password} psql -h 10.0.0.60 -U postgres -d shop -c 'SELECT 1'"
            assert (world.inside("postgres-db", "sh", "-c", line).code == 0) == opens
    finally:
        for world in (cached, other):
            world.orchestrator("down", "--volumes")


def test_database_of_a_damaged_archive_is_made_by_initdb(cached: World) -> None:
    cached.orchestrator("prepare").ok()
    (archive,) = prepared(cached)
    content = archive.read_bytes()
    with archive.open("r+b") as file:  # one byte of forty million
        file.seek(len(content) // 2)
        file.write(bytes([content[len(content) // 2] ^ 1]))
    try:
        assert "it is damaged" in cached.orchestrator("up").ok().out
        assert cached.curl("http://localhost:8080/api/products").ok()
    finally:
        cached.orchestrator("down", "--volumes")
