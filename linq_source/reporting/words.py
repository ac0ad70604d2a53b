"""Numbers in words. Pure."""

from __future__ import annotations

import re

from linq_source.reporting.figures import DAY_S, HOUR_S

# Characters that begin or end a direction.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def many(count: int, name: str) -> str:
    """A number of things: `1 chat`, `2,000 chats`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def isolated(name: str) -> str:
    """A name that changes the direction of nothing around it, whatever it is written in."""
    return f"\u2068{_DIRECTIONS.sub('', name)}\u2069"


def percent(part: int, whole: int) -> str:
    """A share: `98.1%`; of nothing `none`."""
    return f"{100 * part / whole:.1f}%" if whole else "none"


def size_of(size_bytes: int) -> str:
    """A number of bytes: `1.2 GB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= size:
            return f"{size_bytes / size:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.0f} kB"


def in_short(seconds: float) -> str:
    """A length of time with two digits or three: `45 s`, `2.5 min`, `3.4 h`, `12 days`."""
    for size, name in ((DAY_S, "days"), (HOUR_S, "h"), (60, "min")):
        if seconds >= size:
            number = seconds / size
            return f"{number:,.0f} {name}" if number >= 10 else f"{number:.1f} {name}"
    return f"{seconds:.0f} s"
