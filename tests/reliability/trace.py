# SPDX-License-Identifier: Apache-2.0
"""What a process told the kernel, as strace notes it: which file was synced before which answer."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,pwrite64,write,writev,sendto,sendmsg"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_BEGIN = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>.*= (?P<result>-?\d+)")
_SENDING = ("write", "writev", "sendto", "sendmsg")
_UNFINISHED = " <unfinished ...>"


def prefix(output: Path) -> list[str]:
    """Return the command that runs another one and notes its calls."""
    # As a grandchild (-D), so that the process is where it would be without it; with what
    # descriptors stand for, and texts as long as paths may be.
    return ["strace", "-D", "-f", "-yy", "-s", "2048", "-e", f"trace={CALLS}", "-o", str(output)]


@dataclass
class Call:
    """One system call; ``began`` and ``ended`` are places in the order of all."""

    name: str
    arguments: str
    began: int
    ended: int = -1
    failed: bool = False

    @property
    def paths(self) -> list[str]:
        """The texts among the arguments."""
        return re.findall(r'"([^"]*)"', self.arguments)

    @property
    def descriptor(self) -> str:
        """What stands behind the first argument, where that is an open file or socket."""
        found = re.match(r"\d+<(.*?)>(?:[,)]|$)", self.arguments)
        return found[1] if found else ""


def parse(text: str) -> list[Call]:
    """Return the calls in the order in which they began."""
    calls: list[Call] = []
    waiting: dict[str, Call] = {}
    for number, line in enumerate(text.splitlines()):
        parts = _LINE.fullmatch(line)
        if parts is None:
            continue
        if resumed := _RESUMED.match(parts["rest"]):
            call = waiting.pop(parts["pid"], None)
            if call is not None:
                call.ended, call.failed = number, resumed["result"].startswith("-")
        elif begun := _BEGIN.match(parts["rest"]):
            call = Call(begun["call"], begun["arguments"], number)
            calls.append(call)
            if call.arguments.endswith(_UNFINISHED):
                call.arguments = call.arguments.removesuffix(_UNFINISHED)
                waiting[parts["pid"]] = call
            else:
                call.ended, call.failed = number, " = -1 " in call.arguments
    return calls


class Trace:
    """The file that strace writes while the process runs."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._begin = 0

    def begin(self) -> None:
        """Forget what has been noted."""
        self._begin = self._output.stat().st_size

    def until_answer(self, port: int) -> list[Call]:
        """Return the calls up to the first write to the client that has a port, and that write."""
        deadline = time.monotonic() + 60
        while True:
            with self._output.open("rb") as file:
                file.seek(self._begin)
                calls = parse(file.read().decode("utf-8", "replace"))
            for place, call in enumerate(calls):
                if f":{port}]" in call.descriptor and call.name in _SENDING:
                    return calls[: place + 1]
            assert time.monotonic() < deadline, calls
            time.sleep(0.02)
