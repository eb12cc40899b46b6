# SPDX-License-Identifier: Apache-2.0
"""The first process of a lab's namespaces: it holds them, and reaps what the hosts leave.

usage: python -m tests.lab.keeper [OWNER]: end when the process OWNER does. Its number is that of
the machine's processes, so the caller opens it (see `spawn`): this process has other numbers.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab.command import LabError

REPOSITORY = Path(__file__).resolve().parents[2]


def spawn(owner: int | None) -> int:
    """Start a keeper; return the process whose end is the lab's end."""
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--"]
    command += [sys.executable, "-m", "tests.lab.keeper"]
    watched: list[int] = []
    if owner is not None:
        try:
            watched = [os.pidfd_open(owner)]
        except OSError as error:
            raise LabError(f"there is no process {owner} to own the lab") from error
    try:
        process = subprocess.Popen(
            [*command, *map(str, watched)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=watched,
        )
    finally:
        for descriptor in watched:
            os.close(descriptor)
    assert process.stdout is not None
    with process.stdout as output:
        if output.readline() != b"ready\n":
            raise LabError("the lab's namespaces cannot be made: be root, outside of a container")
    # The process outlives this one: it is not this object's to wait for.
    process.returncode = 0
    return process.pid


def reap(*_: object) -> None:
    """Take the exit codes of processes whose parents have gone."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


def main(watched: list[int]) -> None:
    """Stay until the owner ends."""
    signal.signal(signal.SIGCHLD, reap)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    poll = select.poll()
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    poll.poll()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
