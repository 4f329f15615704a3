"""What the textbook services share: a connection for every query, Flask's own server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask
from psycopg.rows import dict_row


def secret(name: str) -> str:
    return Path(os.environ[name]).read_text().strip()


def query(statement: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    with psycopg.connect(
        host=os.environ["DATABASE_HOST"],
        dbname="shop",
        user=os.environ["DATABASE_USER"],
        password=secret("DATABASE_PASSWORD_FILE"),
        row_factory=dict_row,
    ) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def serve(app: Flask, port: int) -> None:
    """As `flask run` does it: a thread for each connection, HTTP/1.0."""
    app.run("0.0.0.0", port, threaded=True)
