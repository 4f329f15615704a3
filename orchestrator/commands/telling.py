"""What commands print the same way."""

from __future__ import annotations

import json
from typing import Any

import click


def tell(document: Any) -> None:
    """One JSON document, for people's eyes too. Streams (`events`, `up`) are a line a record."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
