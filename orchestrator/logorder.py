"""Lines of many logs in the order of their time. Pure.

Programs say when they wrote a line each in its own form, to the second or finer; some of their
lines say nothing, since they belong to the one before.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo

HEAD = 80  # characters in which a line says its time; what comes after is anybody's words

TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
ZONE = r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
FORMS = tuple(
    re.compile(rf"(?<!\d){date}{TIME}{ZONE}")
    for date in (
        # ISO 8601 and RFC 3339, with or without its T; nginx, Go and PostgreSQL
        r"(?P<year>\d{4})(?P<s>[-/])(?P<month>\d\d)(?P=s)(?P<day>\d\d)[T ]",
        r"(?P<day>\d\d?) (?P<name>[A-Z][a-z]{2}) (?P<year>\d{4}) ",  # Redis
    )
)
MONTHS = {name: number for number, name in enumerate(calendar.month_abbr)}


def written_s(line: str) -> float | None:
    """Seconds since the epoch at which the line says that it was written, in local time where it
    names no zone; None if it does not say."""
    for form in FORMS:
        if (found := form.search(line[:HEAD])) is None:
            continue
        parts = found.groupdict()
        month = MONTHS.get(parts["name"], 0) if "name" in parts else int(parts["month"])
        try:
            return datetime(
                *(int(parts["year"]), month, int(parts["day"])),
                *(int(parts["hour"]), int(parts["minute"]), int(parts["second"])),
                int((parts["fraction"] or "0")[:6].ljust(6, "0")),
                _zone(parts["zone"]),
            ).timestamp()
        except (ValueError, OverflowError, OSError):
            continue  # digits that are no time
    return None


def _zone(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def merged(
    logs: Mapping[str, Sequence[str]], ended_s: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """Every line with its log's name. The order within a log stays as it is: a line that says no
    time, or one that was before, comes with the one before it.

    Of a log that never says one, all lines come at the time of its last writing: `ended_s`.
    """
    rows = [
        (at_s, name, line)
        for name, lines in logs.items()
        for at_s, line in zip(_times(lines, ended_s.get(name, 0.0)), lines, strict=True)
    ]
    for _, name, line in sorted(rows, key=lambda row: row[0]):  # stable: nobody is overtaken
        yield name, line


def _times(lines: Sequence[str], otherwise_s: float) -> list[float]:
    said = [written_s(line) for line in lines]
    now_s = next((each for each in said if each is not None), otherwise_s)
    found = []
    for each in said:
        now_s = now_s if each is None else max(now_s, each)
        found.append(now_s)
    return found
