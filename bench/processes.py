# SPDX-License-Identifier: Apache-2.0
"""What a process and all below it have used, as Linux counts it in ``/proc``."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
#: proc(5): what to write to ``clear_refs`` so that the peak starts again from what is resident now.
_RESET_PEAK = "5"
#: Seconds between two looks at who is busy, and how much of a processor is not called busy.
_LOOK = 0.25
_IDLE = 0.1


@dataclass
class Usage:
    """What a block of work took: seconds on the clock, seconds of processors, MiB at the peak."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak_mib: float = 0.0


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(root: int) -> float:
    """Return the processors' time of the tree, with that of children which have ended."""
    return sum(map(_ticks, tree(root))) / _TICKS_A_SECOND


def children_seconds() -> float:
    """Return the processors' time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_mib(root: int) -> float:
    """Return the resident memory of the tree; pages that its processes share count for each."""
    return _memory(root, "VmRSS:")


def wait_until_idle(roots: Iterable[int], patience: float = 60.0) -> bool:
    """Wait until no tree is busy; returns whether that came true.

    A registry goes on with what clients have asked that have left: bcrypt for 16 requests takes
    both processors for two seconds, in which the next peer would be measured.
    """
    known, until = list(roots), time.monotonic() + patience
    while time.monotonic() < until:
        before = sum(map(cpu_seconds, known))
        time.sleep(_LOOK)
        if sum(map(cpu_seconds, known)) - before <= _LOOK * _IDLE:
            return True
    return False


@contextlib.contextmanager
def watched(root: int) -> Iterator[Usage]:
    """Fill in what the tree uses while the block runs."""
    usage = Usage()
    for pid in tree(root):
        with contextlib.suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)
    cpu, started = cpu_seconds(root), time.perf_counter()
    yield usage
    usage.seconds = time.perf_counter() - started
    usage.cpu = cpu_seconds(root) - cpu
    usage.peak_mib = _memory(root, "VmHWM:")


def _ticks(pid: int) -> int:
    """Sum utime, stime, cutime, cstime: fields 14 to 17; the second may hold spaces."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _memory(root: int, key: str) -> float:
    found = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            found += kib(_PROC / str(pid) / "status", key)
    return found / 1024


def kib(file: Path, key: str) -> int:
    """Return what a file of ``/proc`` tells after a key such as ``VmRSS:``; 0 where it does not."""
    for line in file.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0
