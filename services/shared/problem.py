"""Errors as RFC 9457 problem details, for Flask and aiohttp alike."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """An answer that is an error; whatever stands in it may be shown to the client."""

    def __init__(
        self, status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers, self.members = headers or {}, members

    def body(self) -> str:
        """The document: type, title, status, detail and further members."""
        known = self.status in set(HTTPStatus)
        title = HTTPStatus(self.status).phrase if known else "Error"
        document = {"type": "about:blank", "title": title, "status": self.status}
        return json.dumps({**document, "detail": self.detail, **self.members})
