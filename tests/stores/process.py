# SPDX-License-Identifier: Apache-2.0
"""A server in a process that ends with the tests, whatever ends them."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

#: Far more than any of them takes on a machine that is busy with other tests.
START_SECONDS, _END_SECONDS = 90, 10


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, entered when it is ready; what it says is in a file."""
    # The kernel ends it with the thread that started it, after a kill -9 too.
    words = ["setpriv", "--pdeathsig", "KILL", *command]
    inherited = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=log.parent,
            env=inherited | dict(environment or {}),
            start_new_session=True,
        )
    try:
        _wait(process, log, ready)
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server, politely at first."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str, status: int = 200, trust: ssl.SSLContext | None = None) -> Callable[[], bool]:
    """Return a test whether a URL is answered with a status."""

    def ask() -> bool:
        try:
            return (
                httpx.get(url, timeout=5, trust_env=False, verify=trust or True).status_code
                == status
            )
        except httpx.TransportError:
            return False

    return ask


def listens(port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """Return a test whether connections to a port are taken."""

    def connect() -> bool:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            return False
        return True

    return connect


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            state = "does not answer" if code is None else f"ended with code {code}"
            said = log.read_text(errors="replace")[-2000:]
            message = f"{log.stem} {state}; it said: {said}"
            raise RuntimeError(message)
        time.sleep(0.05)
