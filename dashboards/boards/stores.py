"""PostgreSQL and Redis from both sides."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import R, mean_time
from dashboards.panels import lines

SLUG = "stores"
TITLE = "Stores"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "PostgreSQL",
        [
            lines(
                "Commits and rollbacks",
                "Transactions a second of the shop's database.",
                "short",
                [
                    (f'rate(pg_stat_database_xact_commit{{datname="shop"}}{R})', "commits"),
                    (f'rate(pg_stat_database_xact_rollback{{datname="shop"}}{R})', "rollbacks"),
                ],
            ),
            lines(
                "Hit ratio",
                "Share of the blocks that were found in shared buffers.",
                "percentunit",
                [
                    (
                        (
                            f'rate(pg_stat_database_blks_hit{{datname="shop"}}{R}) / '
                            f'(rate(pg_stat_database_blks_hit{{datname="shop"}}{R}) + '
                            f'rate(pg_stat_database_blks_read{{datname="shop"}}{R}))'
                        ),
                        "hits",
                    )
                ],
            ),
            lines(
                "As its clients see it",
                "Mean time that a request spends with PostgreSQL, the wire included.",
                "s",
                [(mean_time("postgres-db"), "per request")],
            ),
            lines(
                "Connections",
                "Connections to the shop's database.",
                "short",
                [('pg_stat_database_numbackends{datname="shop"}', "connections")],
            ),
        ],
    ),
    (
        "Redis",
        [
            lines(
                "Commands",
                "Commands a second.",
                "ops",
                [(f"rate(redis_commands_processed_total{R})", "commands")],
            ),
            lines(
                "Hit ratio",
                "Share of the look-ups that found their key.",
                "percentunit",
                [
                    (
                        (
                            f"rate(redis_keyspace_hits_total{R}) /"
                            f" (rate(redis_keyspace_hits_total{R})"
                            f" + rate(redis_keyspace_misses_total{R}))"
                        ),
                        "hits",
                    )
                ],
            ),
            lines(
                "As its clients see it",
                "Mean time that a request spends with Redis, the wire included; and what a command "
                "takes in Redis itself. The difference is the wire's, and the client's.",
                "s",
                [
                    (mean_time("redis-cache"), "per request"),
                    (
                        (
                            f"sum(rate(redis_commands_duration_seconds_total{R}))"
                            f" / sum(rate(redis_commands_total{R}))"
                        ),
                        "per command, in Redis",
                    ),
                ],
            ),
            lines(
                "Memory",
                "Memory that the keys take, and the limit.",
                "bytes",
                [("redis_memory_used_bytes", "used"), ("redis_memory_max_bytes", "limit")],
            ),
        ],
    ),
]
