# SPDX-License-Identifier: Apache-2.0
"""The access log: one line for each request, written in batches to save system calls.

A line: client, user, time, request line, status, bytes of the answer's body, seconds, user agent.
"""

from __future__ import annotations

import asyncio
import time
from typing import TextIO

from buildset_registry.http.request import Request

#: Seconds that a line may wait; what a killed process can lose.
_DELAY = 0.2


class AccessLog:
    """Collect lines and write them soon; ``flush`` at the end."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def add(self, request: Request, status: int, size: int, seconds: float) -> None:
        user = request.identity.name or "-"
        agent = _printable(request.headers.get("user-agent", "-"))
        asked = f"{request.method} {_printable(request.url)}"
        line = (
            f"{request.client or '-'} {user} [{self._now()}] "
            f'"{asked}" {status} {size} {seconds:.4f} "{agent}"\n'
        )
        if not self._lines:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what is waiting."""
        if self._lines:
            self._output.write("".join(self._lines))
            self._output.flush()
            self._lines.clear()

    def _now(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return self._stamp


def _printable(text: str) -> str:
    """Return ``text`` without what could forge a line of the log."""
    if text.isprintable() and '"' not in text:
        return text
    return "".join(char if char.isprintable() and char != '"' else "?" for char in text)
