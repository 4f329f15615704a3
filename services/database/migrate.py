"""Brings the database's schema and roles to where the services need them.

Safe to repeat. Each file of `migrations/` is applied once, in its own transaction, and
remembered with its checksum; roles get their present passwords every time.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from shared.settings import passwords, setting

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x5348_4F50  # "SHOP": any number that nobody else uses
ROLES = {
    "postgres": "POSTGRES_PASSWORD_FILE",
    "product": "PRODUCT_PASSWORD_FILE",
    "orders": "ORDERS_PASSWORD_FILE",
    "monitoring": "MONITORING_PASSWORD_FILE",
}

Connection = psycopg.Connection[tuple[Any, ...]]


def migrate(connection: Connection) -> list[str]:
    """Applies what is missing; returns the names. Raises ValueError for a changed file."""
    connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,"
        " name text NOT NULL, checksum text NOT NULL, applied_at timestamptz DEFAULT now())"
    )
    rows = connection.execute("SELECT version, checksum FROM schema_migrations")
    applied = dict(rows.fetchall())
    done = []
    for path in sorted(MIGRATIONS.glob("*.sql")):
        match = re.fullmatch(r"(\d{3})_\w+\.sql", path.name)
        if match is None:
            raise ValueError(f"{path.name} must be named NNN_words.sql")
        version, text = int(match[1]), path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if version in applied:
            if applied[version] != checksum:
                raise ValueError(f"{path.name} was changed after it had been applied")
            continue
        with connection.transaction():
            connection.execute(text.encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (version, path.name, checksum),
            )
        done.append(path.name)
    return done


def ensure_roles(connection: Connection) -> None:
    """A role for each service, with its password; the next one while it is being rotated."""
    known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    for role, variable in ROLES.items():
        verb = "ALTER" if role in known else "CREATE"
        statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}")
        connection.execute(
            statement.format(sql.Identifier(role), sql.Literal(passwords(variable)[-1]))
        )
    # All statistics, no tables: https://www.postgresql.org/docs/15/predefined-roles.html
    connection.execute("GRANT pg_monitor TO monitoring")
    connection.execute("ALTER ROLE monitoring CONNECTION LIMIT 3")


def connect() -> Connection:
    """As the superuser. Raises psycopg.OperationalError."""
    for password in passwords("POSTGRES_PASSWORD_FILE"):
        try:
            return psycopg.connect(
                host=setting("DATABASE_HOST"),
                port=setting("DATABASE_PORT", "5432"),
                dbname=setting("DATABASE_NAME", "shop"),
                user="postgres",
                password=password,
                connect_timeout=5,
                autocommit=True,
            )
        except psycopg.OperationalError as error:
            refused = error
    raise refused


def main() -> None:
    try:
        with connect() as connection:
            ensure_roles(connection)
            done = migrate(connection)
    except (psycopg.Error, ValueError) as error:
        sys.exit(f"cannot migrate: {error}")
    sys.stdout.write(f"applied: {', '.join(done) or 'nothing to do'}\n")


if __name__ == "__main__":
    main()
