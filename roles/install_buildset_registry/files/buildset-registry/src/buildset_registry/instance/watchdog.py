# SPDX-License-Identifier: Apache-2.0
"""The watchdog: a process that keeps a server running, ``python -m ...watchdog ROOT``.

Where systemd does not run the host, this does its part: the server is started again when it fails,
with growing pauses. It lives as long as the registry, so it imports nothing but the standard
library, and little of that. The lock that it takes is inherited by the server: it tells that one
of them lives, whatever became of the other.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

#: The variable by which a server is told how the one before it ended; it writes that to its log.
ENDED = "BUILDSET_REGISTRY_ENDED"
#: What ``serve`` ends with when its configuration is wrong: starting again would not help.
CONFIGURATION = 2
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
#: Seconds after which a server counts as one that ran.
_RAN = 60.0
#: Seconds that another process may have the lock: whoever asks who has it takes it for a moment.
_LOCK_SECONDS = 1.0
_LOCK_PAUSE = 0.005


class Watchdog:
    """Starts one server, and starts it again when it fails."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._stopping = False
        self._server = 0
        self._environment = dict(os.environ)

    def run(self) -> int:
        """Serve until told to stop, or until the server says that it cannot."""
        if not take_lock(self._root):
            return 1
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            code = self._serve()
            if self._stopping or code in (0, CONFIGURATION):
                return code
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self._environment[ENDED] = how
            if time.monotonic() - began > _RAN:
                pause = _FIRST_PAUSE
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            if self._stopping:
                return 0

    def _serve(self) -> int:
        """Run the server once and return its exit code, negative for a signal."""
        words = [sys.executable, "-m", "buildset_registry", "serve"]
        words += ["--config", f"{self._root}/config.yaml"]
        self._server = os.posix_spawn(
            sys.executable,
            words,
            self._environment,
            file_actions=[
                (
                    os.POSIX_SPAWN_OPEN,
                    2,
                    f"{self._root}/run/stderr",
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    0o600,
                )
            ],
        )
        if self._stopping:  # told so before there was a server to tell
            os.kill(self._server, signal.SIGTERM)
        _pid, status = os.waitpid(self._server, 0)
        self._server = 0
        return os.waitstatus_to_exitcode(status)

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        if self._server:
            os.kill(self._server, signal.SIGTERM)

    def _pass_on(self, number: int, frame: object) -> None:
        """Have the server read its certificates again."""
        if self._server:
            os.kill(self._server, number)


def take_lock(root: str) -> bool:
    """Take the lock for this process and those it starts, and write down who has it."""
    path = f"{root}/run/lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return False
            time.sleep(_LOCK_PAUSE)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    os.set_inheritable(descriptor, True)
    return True


if __name__ == "__main__":
    sys.exit(Watchdog(sys.argv[1]).run())
