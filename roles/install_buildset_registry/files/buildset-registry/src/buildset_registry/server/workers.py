# SPDX-License-Identifier: Apache-2.0
"""Several processes that serve the same ports: their parent, which starts again what ends.

The parent opens the ports and serves nobody. It has one thread and no event loop, so that it may
fork at any time: a worker is a copy of it that has all modules already, and its memory with them.
All of them accept from the same sockets: while one of them is down, no connection is refused.

A worker ends with its parent (PR_SET_PDEATHSIG of prctl(2)), so that whoever starts the registry
again finds its ports free. It tells the parent that it serves by SIGUSR1.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.metrics.workers import Siblings, WorkerStates, open_sockets
from buildset_registry.server.handover import wanted
from buildset_registry.server.notify import READY, STOPPING, notify
from buildset_registry.server.sockets import open_listener
from buildset_registry.store import store_kind

_log = logging.getLogger("buildset_registry")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1
#: What a process ends with whose configuration is wrong.
_WRONG = 2
#: Seconds before a worker is started again, at first and at most, and how long one has to have
#: run to count as one that did.
_FIRST_PAUSE, _LONGEST_PAUSE, _RAN = 0.5, 30.0, 60.0
#: Seconds beyond ``shutdown_seconds`` in which a worker closes what it has.
_CLOSING = 15.0
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes, as it sees itself."""

    config: Config
    """Its own: what one process does for all is left to the first."""

    sockets: Mapping[str, socket.socket]
    """The ports that it shares, by the names of their listeners."""

    siblings: Siblings
    number: int
    states: WorkerStates

    def serves(self) -> None:
        """Tell the parent that clients are let in."""
        self.states.begin(self.number)
        os.kill(os.getppid(), signal.SIGUSR1)


class WorkersParent:
    """Starts the workers, and ends with them; ``ConfigError`` where they could not work."""

    def __init__(self, config: Config, serve: Callable[[Worker], None]) -> None:
        if store_kind(config).alone:
            raise ConfigError(
                f"workers: {config.workers} need a store that several processes may use at once; "
                "name a service of objects in storage (s3, swift, azure, gcs, oss), "
                "or leave workers out"
            )
        if config.ledger is not None and config.ledger.folder is not None:
            raise ConfigError(
                "ledger.folder is written by one process; leave it out, and workers keep the "
                "ledger in the object store"
            )
        self._config = _with_key(config)
        self._serve = serve
        self._sockets = _open_listeners(config)
        self._control = open_sockets(config.workers)
        self._states = WorkerStates(config.workers)
        self._running: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._due: dict[int, float] = {0: 0.0}
        self._complete = False
        self._stopping = 0.0
        self._code = 0

    def run(self) -> int:
        """Serve until told to stop, or until the configuration is found wrong; returns the code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._running or self._due:
            self._start_due()
            told = signal.sigtimedwait(_SIGNALS, self._seconds())
            if told is not None:
                self._take(told.si_signo)
            self._reap()
            if self._stopping and time.monotonic() > self._stopping:
                _log.warning("workers do not end; they are killed")
                self._tell_all(signal.SIGKILL)
                self._stopping = float("inf")
        return self._code

    def _seconds(self) -> float:
        """Return how long nothing has to be done."""
        times = [*self._due.values(), *([self._stopping] if self._stopping else [])]
        return min(max(0.0, min(times, default=float("inf")) - time.monotonic()), 3600.0)

    def _take(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop(0)
        elif number == signal.SIGHUP:
            self._tell_all(number)
        elif number == signal.SIGUSR1 and not self._complete:
            self._go_on()

    def _go_on(self) -> None:
        """Start the others when the first one serves: what is wrong is told once."""
        serving = sum(map(self._states.serves, range(self._config.workers)))
        if serving == self._config.workers:
            self._complete = True
            _log.info("%d workers serve", serving)
            notify(READY)
        elif not self._stopping and len(self._running) + len(self._due) < self._config.workers:
            known = {*self._running.values(), *self._due}
            self._due |= dict.fromkeys(set(range(self._config.workers)) - known, 0.0)

    def _stop(self, code: int) -> None:
        """Let all of them end their requests."""
        if self._stopping:
            return
        notify(STOPPING)
        seconds = self._config.limits.shutdown_seconds
        self._stopping = time.monotonic() + seconds + _CLOSING if seconds else float("inf")
        self._code = code
        self._due.clear()
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [one for one, when in self._due.items() if when <= now]:
            del self._due[number]
            self._start(number)

    def _start(self, number: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os._exit(self._work(number, parent))
        self._running[pid] = number
        self._began[number] = time.monotonic()

    def _work(self, number: int, parent: int) -> int:
        """Be a worker, and return the code to end with; nothing of the parent's is run here."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return 1
        os.environ.pop("NOTIFY_SOCKET", None)  # it is the parent that systemd listens to
        config = self._config
        if number:
            config = replace(config, gc=replace(config.gc, interval=0))
            if config.acme is not None:
                config = replace(config, acme=replace(config.acme, port=0))
        siblings = Siblings(number, self._control, self._states)
        try:
            self._serve(Worker(config, self._sockets, siblings, number, self._states))
        except ConfigError as error:
            sys.stderr.write(f"buildset-registry: {error}\n")
            return _WRONG
        except BaseException:
            _log.exception("a worker failed")
            return 1
        return 0

    def _reap(self) -> None:
        """Take note of those that have ended."""
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._running.pop(pid, None)
            if number is not None:  # as process 1 of a container it gets the orphans of others
                self._ended(number, os.waitstatus_to_exitcode(status))

    def _ended(self, number: int, code: int) -> None:
        self._states.end(number)
        if self._stopping:
            return
        if code == _WRONG and not self._complete:
            self._stop(code)
            return
        now = time.monotonic()
        ran = now - self._began[number] > _RAN
        pause = _FIRST_PAUSE if ran else self._pauses.get(number, _FIRST_PAUSE)
        self._pauses[number] = min(2 * pause, _LONGEST_PAUSE)
        self._states.restart(number)
        self._due[number] = now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        _log.error("worker %d %s; it is started again in %g s", number, how, pause)


def _with_key(config: Config) -> Config:
    """Return a configuration by which all workers sign tokens alike, if only as long as they live.

    The key is in memory that has no name: its file is a descriptor that all of them have.
    """
    auth = config.auth
    if auth.token_key is not None or auth.token is not None:
        return config
    descriptor = os.memfd_create("buildset-registry")
    os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
    key = Path(f"/proc/self/fd/{descriptor}")
    return replace(config, auth=replace(auth, token_key=key, refresh_seconds=0))


def _open_listeners(config: Config) -> dict[str, socket.socket]:
    seconds = config.limits.answer_seconds
    return {
        name: open_listener(address, port, name, seconds)
        for name, (address, port) in wanted(config).items()
    }
