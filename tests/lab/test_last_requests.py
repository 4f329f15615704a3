"""What clients of port 8080 hear while `down` goes on."""

from __future__ import annotations

import subprocess

from books import query, words_of
from rig import World, eventually

LOCK = "BEGIN; LOCK TABLE products; SELECT pg_sleep(100)"
LET_GO = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
HELD = "SELECT 1 FROM pg_locks WHERE relation = 'products'::regclass"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
URL, HEALTH = "http://localhost:8080/api/products", "http://localhost:8080/health"


def test_request_under_way_ends_and_new_ones_are_refused_at_once(world: World) -> None:
    """The host forwards nothing by itself: without our rules no answer finds its way back."""
    world.orchestrator("up").ok()
    there = ["nsenter", f"--net=/run/netns/{world.host}"]
    holder = subprocess.Popen([*there, *words_of(world, LOCK)], stdout=subprocess.DEVNULL)
    asked = [
        *there,
        "curl",
        "-s",
        "-m",
        "20",
        "-H",
        "Cache-Control: no-cache",
        "-w",
        "%{http_code}",
    ]
    try:
        eventually(lambda: query(world, HELD) != [])
        client = subprocess.Popen(
            [*asked, "-o", "/dev/null", URL], stdout=subprocess.PIPE, text=True
        )
        eventually(lambda: query(world, WAITING) == [["1"]])
        down = world.start("down")
        eventually(lambda: world.curl(HEALTH).code == 7)  # refused
        query(world, LET_GO)
    finally:
        holder.kill()
        holder.wait()
    assert client.communicate(timeout=30)[0] == "200"
    said = down.communicate(timeout=60)[0]
    assert down.returncode == 0, said
