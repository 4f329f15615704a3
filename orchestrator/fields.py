"""Values of a stack file by their types: durations, names, ports, paths, texts; no I/O."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
SIZE = re.compile(r"(\d+)([KMG])")
LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"  # RFC 1123, and what /etc/hosts takes besides
HOST_NAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*\.?")
NAME_MAX, PATH_MAX = 255, 4096  # bytes, with a path's closing zero: linux/limits.h
SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


def _seconds(value: Any) -> Any:
    """`30s`, `500ms`, `2m` or a number of seconds."""
    if isinstance(value, str) and (match := DURATION.fullmatch(value.strip())):
        return float(match[1]) * UNITS_S[match[2]]
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no duration; write 500ms, 30s or 2m")
    return value


def _bytes(value: Any) -> Any:
    """`512M`, `1G` or a number of bytes."""
    if isinstance(value, str) and (match := SIZE.fullmatch(value.strip())):
        return int(match[1]) * SIZES[match[2]]
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no size; write 256M or 1G")
    return value


def signal_name(value: Any) -> Any:
    """`TERM` is `SIGTERM`."""
    return value if not isinstance(value, str) or value.startswith("SIG") else f"SIG{value}"


def published(value: Any) -> Any:
    """`8080:80` as in Docker Compose: host port, then the service's."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,5}):(\d{1,5})(?:/tcp)?", value)
    if match is None:
        raise ValueError(f'{value!r} is no published port; write "8080:80"')
    return {"host": int(match[1]), "service": int(match[2])}


def _flow_port(value: Any) -> Any:
    """`443`, `443/tcp` or `53/udp`, always with the protocol."""
    text = f"{value}/tcp" if type(value) is int else value
    match = re.fullmatch(r"(\d{1,5})(?:/(tcp|udp))?", text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError(f"{value!r} is no port; write 443 or 53/udp")
    return f"{int(match[1])}/{match[2] or 'tcp'}"


def way_out(value: Any) -> Any:
    """One of two words, or a list: which of them was meant is plain. Raises ValueError."""
    if value in ("allowed", "denied") or isinstance(value, list | tuple):
        return value
    raise ValueError("must be allowed, denied, or a list of ports, e.g. [443, 53/udp]")


def one_or_more(value: Any) -> Any:
    """A single text is a list of one."""
    return [value] if isinstance(value, str) else value


def _in_stack(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{value!r} must lie below the stack file's directory")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/") or value == "/":
        raise ValueError(f"{value!r} must be an absolute path without ..")
    encoded = value.encode(errors="surrogatepass")
    if len(encoded) >= PATH_MAX:
        raise ValueError(f"{value[:40]}… is longer than the {PATH_MAX - 1} bytes of a path")
    if (longest := max(map(len, encoded.split(b"/")))) > NAME_MAX:
        raise ValueError(f"{value[:40]}… has a name of {longest} bytes; {NAME_MAX} is the most")
    return value.rstrip("/")


def _host(value: str) -> str:
    """A name or an address, in small letters. Raises ValueError."""
    if ":" in value:
        return str(IPv6Address(value))
    if value.rpartition(".")[2].isdigit():
        return str(IPv4Address(value))
    if not HOST_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no host name")
    return value


def _url(value: str) -> str:
    """Whoever asks there later may rely on its host and port."""
    try:
        parts = urlsplit(value)
        _host(parts.hostname or "")
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from error
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("is no URL: its port must be a number from 1 to 65535")
    if "@" in parts.netloc:
        raise ValueError("is no URL: nobody sends its user; give an Authorization header")
    if not value.isprintable():
        raise ValueError("is no URL: it holds what cannot be printed")
    return value


def _json(value: Any) -> Any:
    """JSON has no such numbers (RFC 8259, section 6), YAML has."""
    inner = value.values() if isinstance(value, dict) else value if type(value) is list else ()
    for each in inner:
        _json(each)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} is no number that JSON has")
    return value


def _no_zero(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a zero byte")
    return value


# A name becomes a file, a namespace and a host name: RFC 1123 labels fit all three.
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", max_length=40)
]
# IFNAMSIZ is checked by hand, for its own message.
InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]
FlowPort = Annotated[
    str,
    BeforeValidator(_flow_port),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": r"^\d{1,5}(/(tcp|udp))?$"},
            ]
        }
    ),
]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=86_400),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m)?$"},
            ]
        }
    ),
]
Bytes = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=1 << 20, le=1 << 50),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1 << 20},
                {"type": "string", "pattern": r"^\d+[KMG]$"},
            ]
        }
    ),
]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^http://[^\s]+$"), AfterValidator(_url)]
# RFC 9110, sections 5.1 and 5.5: a value is one line.
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json)]
StackPath = Annotated[str, AfterValidator(_no_zero), AfterValidator(_in_stack)]
AbsolutePath = Annotated[str, AfterValidator(_no_zero), AfterValidator(_absolute)]
# A whole number in YAML is fine as an argument or in the environment; a float is rarely meant.
Text = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    AfterValidator(_no_zero),
    WithJsonSchema({"type": ["string", "integer"]}),
]


class Model(BaseModel):
    """Frozen; unknown keys are errors; text is not turned into numbers. Built at first use."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)
