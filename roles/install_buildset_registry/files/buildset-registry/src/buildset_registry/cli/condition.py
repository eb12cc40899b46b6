# SPDX-License-Identifier: Apache-2.0
"""The condition of a registry for people: whether it runs, what was seen, what needs a look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildset_registry.cli.output import amount, number, state

if TYPE_CHECKING:
    from buildset_registry.instance.lifecycle import InstanceStatus

#: Seconds of a unit of time, and its name.
_UNITS = ((24 * 3600, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def condition(found: InstanceStatus, config: Path | None = None) -> str:
    """Return what ``status`` says of a registry, or of what serves a configuration."""
    if config is None:
        lines = [state(found.root, found.pid, found.facts, answers=found.answers)]
    else:
        lines = [f"The registry of {config} {'answers' if found.answers else 'does not answer'}"]
    lines += [f"  {name:<12}{text}" for name, text in _seen(found)]
    if found.attention:
        lines += ["", "Needs a look:"]
        lines += [f"  {one.subject}: {one.message}" for one in found.attention]
    return "\n".join(lines)


def _seen(found: InstanceStatus) -> Iterator[tuple[str, str]]:
    now = time.time()
    if found.certificate and found.certificate["ends"]:
        ends = found.certificate["ends"]
        yield "certificate", f"ends in {_span(ends - now)}" if ends > now else "has ended"
    storage = found.storage or {}
    if storage.get("size_bytes"):
        room = f"{amount(storage['free_bytes'])} of {amount(storage['size_bytes'])} are free"
        yield "storage", room
    for one in found.processes:
        if len(found.processes) > 1:
            about = f"process {one['pid']} of {one['host']}, version {one['version']}"
            yield "replica", f"{about}, told {_ago(one['told'], now)}"
        yield "collection", _collection(one, now)
        for name, limit in one["upstreams"].items():
            left = f"{number(limit['remaining'])} of {number(limit['limit'])} pulls are left"
            yield name, f"{left}, as it said {_ago(limit['told'], now)}"


def _collection(process: dict[str, Any], now: float) -> str:
    collector = process["collector"]
    if collector["ended"]:
        freed = amount(collector["freed_bytes"])
        return (
            f"{_ago(collector['ended'], now)}; freed {freed} since {_ago(process['started'], now)}"
        )
    if not collector["interval"]:
        return "only by buildset-registry gc"
    return f"none yet; started {_ago(process['started'], now)}"


def _ago(moment: float, now: float) -> str:
    return f"{_span(now - moment)} ago"


def _span(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for size, name in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {name}{'s' if count > 1 else ''}"
    return "0 seconds"
