# SPDX-License-Identifier: Apache-2.0
"""A registry in a process of its own: where systemd does not run the host, or the user is not root.

The watchdog is the leader of a process group of its own, its server a member. The lock in
``run/lock`` tells whether one of them lives; a process number may be another process's by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from buildset_registry.errors import ConfigError
from buildset_registry.instance.paths import InstancePaths
from buildset_registry.instance.watchdog import take_lock

_STEP = 0.01


class ProcessSupervisor:
    """Starts and ends the background process of one registry."""

    name = "process"

    def __init__(self, paths: InstancePaths) -> None:
        self._paths = paths

    def pid(self) -> int | None:
        """Return the number of the process that runs the registry, or None where none does."""
        try:
            descriptor = os.open(self._paths.lock, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            return self._written()  # somebody else's: as much as can be seen
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return self._written()
        finally:
            os.close(descriptor)
        return None

    def start(self) -> None:
        """Start it, apart from this process and its terminal; return when it runs or has ended."""
        self._paths.last_words.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.watchdog", str(self._paths.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        while self.pid() is None and process.poll() is None:
            time.sleep(_STEP)

    def stop(self, seconds: float) -> bool:
        """End it; running requests may take ``seconds``. False where nothing ran.

        ``ConfigError`` where it goes on all the same: nobody is to take its files away then.
        """
        pid = self.pid()
        if pid is None:
            return False
        self._signal(pid, signal.SIGTERM)
        if not self._wait(seconds):
            self._signal(pid, signal.SIGKILL)
            if not self._wait(seconds):
                raise ConfigError(
                    f"the registry in {self._paths.root} (process {pid}) does not end, although it "
                    "was killed; see whether its disk answers, and try again"
                )
        return True

    def remove(self) -> None:
        """Remove what is outside the folder: nothing."""

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_STEP)
        return True

    def _written(self) -> int | None:
        """Return what the holder of the lock wrote; 0 in the moment before it does."""
        try:
            text = Path(self._paths.lock).read_text()
        except OSError:
            return 0
        return int(text) if text.isdecimal() else 0

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to the watchdog and, should it have been killed, to its server."""
        if pid > 1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)


class ForegroundSupervisor(ProcessSupervisor):
    """The registry in the process that was told to serve: of a container, or of a terminal.

    Whoever started it starts it again. It is the first process of a container mostly, and the lock
    may be seen from another one, where the same number is another process's.
    """

    name = "foreground"

    def start(self) -> None:
        raise ConfigError(
            "the registry was started in the foreground; start it there again, "
            "or here with --supervisor process"
        )

    def take(self) -> None:
        """Let this process be the registry; it serves from now on, or ends."""
        if not take_lock(str(self._paths.root)):
            raise ConfigError(
                f"a registry runs in {self._paths.root} already (process {self._written()}); "
                f"end it by buildset-registry down --root {self._paths.root}"
            )

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            words = []
        if str(self._paths.config) not in words:
            raise ConfigError(
                f"the registry in {self._paths.root} runs where this command cannot end it, "
                "in a container perhaps; stop it there"
            )
        os.kill(pid, number)
