"""A check: HTTP requests through the platform in order, as a client would make them."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from orchestrator.events import Outcome
from orchestrator.path.spans import own_traceparent
from orchestrator.processes import exchange
from orchestrator.processes.probes import Answer, brief
from orchestrator.resource import Observation, State

PRINTABLE = string.punctuation  # all else but letters and digits is escaped in a URL


class Request(Struct, frozen=True):
    """One request with what its answer must look like, and what to keep of it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any] | None
    status: int
    contains: str
    json_keys: tuple[str, ...]
    save: Mapping[str, str]


class CheckProbe(Struct, frozen=True):
    """Passes when every request gets the expected answer."""

    requests: Sequence[Request]
    kind: str = "check"

    async def check(self) -> Answer:
        saved: dict[str, Any] = {}
        seen: list[str] = []
        for request in self.requests:
            answer = await _ask(request, saved)
            seen.append(answer.text)
            if not answer.passed:
                return Answer(False, "; ".join(seen))
        return Answer(True, "; ".join(seen))


async def _ask(request: Request, saved: dict[str, Any]) -> Answer:
    """One request; what `save` names is put into `saved`."""
    url = quote(_fill(request.url, saved), safe=PRINTABLE, errors="replace")
    what = f"{request.method} {url}"
    headers = {"traceparent": own_traceparent()[1]}  # no user's request
    for key, value in request.headers.items():
        headers[key] = _fill(value, saved)
        if not headers[key].isprintable():  # what was saved is whatever somebody answered
            return Answer(False, f"{what}: what was saved for its header {key} is not printable")
    body = b""
    if request.body is not None:
        filled = {key: _fill_value(value, saved) for key, value in request.body.items()}
        body = json.dumps(filled).encode()
        headers = {"Content-Type": "application/json", **headers}
    reply = await exchange.request(request.method, url, headers, body)
    text, found = reply.text, f"{what} → {reply.status}"
    if reply.status != request.status:
        return Answer(False, f"{found}, wanted {request.status}: {brief(text)}")
    if request.contains not in text:
        return Answer(False, f"{found}, without {request.contains!r}: {brief(text)}")
    if not (request.json_keys or request.save):
        return Answer(True, found)
    try:
        data = json.loads(text)
    except ValueError:
        return Answer(False, f"{found}, which is not JSON: {brief(text)}")
    for key in (*request.json_keys, *request.save.values()):
        if not isinstance(data, dict) or key not in data:
            return Answer(False, f"{found}, without the key {key}: {brief(text)}")
    saved.update({name: data[key] for name, key in request.save.items()})
    return Answer(True, found)


def _fill(text: str, saved: Mapping[str, Any]) -> str:
    """`{name}` replaced by what was saved under it; other braces stay."""
    for name, value in saved.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def _fill_value(value: Any, saved: Mapping[str, Any]) -> Any:
    return _fill(value, saved) if isinstance(value, str) else value


class Milestone(Struct, frozen=True):
    """A node that owns nothing: its gate is all there is to it."""

    name: str

    async def observe(self) -> Observation:
        return Observation(State.PRESENT)

    async def ensure(self) -> Outcome:
        return Outcome.UNCHANGED

    async def remove(self) -> Outcome:
        return Outcome.UNCHANGED
