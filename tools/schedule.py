# SPDX-License-Identifier: Apache-2.0
"""Jobs that run side by side: each in a lane and in its turn, and nothing of them stays behind.

A job starts when what it needs has ended, well or not: it finds out itself what that comes to. One
that is ``alone`` starts when nothing runs, and nothing starts beside it. A ``build`` takes no lane:
builds run one after another, at the lowest priority, in the time that the lanes leave.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: The longest tier takes some 37 minutes while all tools are built beside it, and 23 to 29 without.
LIMIT_SECONDS = 45 * 60
#: How long jobs that are interrupted may clean up; a little more than nox gives a session.
GRACE_SECONDS = 12.0
LOWEST_PRIORITY = 19
POLL_SECONDS = 0.05
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Job:
    """A command to run, and what it can run beside."""

    name: str
    command: tuple[str, ...]
    log: Path
    needs: tuple[str, ...] = ()
    alone: bool = False
    build: bool = False
    limit: float = LIMIT_SECONDS


@dataclass
class Running:
    """A job's process, the first of a session of its own."""

    job: Job
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Ended:
    """How a job went."""

    job: Job
    exit_code: int
    seconds: float


def choose(waiting: Sequence[Job], running: Sequence[Job], lanes: int) -> Job | None:
    """Return the first job that can start now."""
    if any(job.alone for job in running):
        return None
    unfinished = {job.name for job in (*waiting, *running)}
    for job in waiting:
        if job.alone:
            free = not running
        elif job.build:
            free = not any(other.build for other in running)
        else:
            free = sum(not other.build for other in running) < lanes
        if free and unfinished.isdisjoint(job.needs):
            return job
    return None


def run(
    jobs: Sequence[Job], lanes: int, watch: Callable[[list[str]], None]
) -> Generator[Ended, None, None]:
    """Run jobs and tell of each when it has ended; watch is given the names of those that run."""
    waiting = list(jobs)
    running: dict[int, Running] = {}
    adopt_orphans()
    try:
        while waiting or running:
            while job := choose(waiting, [each.job for each in running.values()], lanes):
                waiting.remove(job)
                started = start(job)
                running[started.process.pid] = started
                watch([each.job.name for each in running.values()])
            if not running:
                raise ValueError(f"each needs another: {' '.join(job.name for job in waiting)}")
            yield wait(running)
    finally:
        interrupt(running.values())
        kill_descendants()


def start(job: Job) -> Running:
    """Start a job in a session of its own, where no key pressed at the terminal reaches it."""
    with job.log.open("wb") as output:
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if job.build:
        with suppress(OSError):
            os.setpriority(os.PRIO_PGRP, process.pid, LOWEST_PRIORITY)
            # Where Linux groups processes by session, it is the group's priority that counts.
            Path(f"/proc/{process.pid}/autogroup").write_text(str(LOWEST_PRIORITY))
    return Running(job, process)


def wait(running: dict[int, Running]) -> Ended:
    """Wait until a job has ended, take it out, and end what is left of its process group."""
    while not (ended := reap(running)):
        for each in running.values():
            if time.monotonic() - each.started > each.job.limit:
                send(each, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    send(ended, signal.SIGKILL)
    del running[ended.process.pid]
    seconds = time.monotonic() - ended.started
    exit_code = ended.process.returncode
    if seconds > ended.job.limit:
        with ended.job.log.open("a") as log:
            log.write(f"\nended after {ended.job.limit:g} seconds\n")
    return Ended(ended.job, exit_code, seconds)


def reap(running: dict[int, Running]) -> Running | None:
    """Collect processes that have ended, orphans as well, up to the first that is a job's."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            if pid in running:
                running[pid].process.returncode = os.waitstatus_to_exitcode(status)
                return running[pid]
    return None


def send(running: Running, number: signal.Signals) -> None:
    """Send a signal to a job's process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(running.process.pid, number)


def interrupt(running: Iterable[Running]) -> None:
    """Let jobs clean up behind them, for a while."""
    left = {each.process.pid: each for each in running}
    for each in left.values():
        send(each, signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        if ended := reap(left):
            del left[ended.process.pid]
        time.sleep(POLL_SECONDS)


def adopt_orphans() -> None:
    """Become the parent of whatever the jobs leave behind, such as daemons."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants() -> None:
    """Kill every process below this one."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := descendants()) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reap({})
        time.sleep(POLL_SECONDS)


def descendants() -> list[int]:
    """Return the processes that this one, or one of them, has started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name, which may hold anything: the state and the parent.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    look = [os.getpid()]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found
