# SPDX-License-Identifier: Apache-2.0
"""Serving: the listeners run on one event loop until a signal, and running requests end first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

import uvloop

from buildset_registry import __version__, background
from buildset_registry.config import Config
from buildset_registry.config.model import LimitSettings
from buildset_registry.metrics.listener import MetricsListener
from buildset_registry.metrics.workers import Siblings
from buildset_registry.server.build import DockerProxy, Listener, RegistryProcess, build
from buildset_registry.server.certificates import CertificateSource, CertificateWatch, Credentials
from buildset_registry.server.connections import ConnectionBudget, affordable, most_requests
from buildset_registry.server.handover import take_ports
from buildset_registry.server.http_server import HttpServer
from buildset_registry.server.logs import configure, open_output
from buildset_registry.server.notify import READY, STOPPING, notify
from buildset_registry.server.sockets import open_listener
from buildset_registry.server.workers import Worker, WorkersParent

_log = logging.getLogger("buildset_registry")

#: The variable in which a supervisor says how the server before this one ended, if not by itself.
_ENDED = "BUILDSET_REGISTRY_ENDED"
#: Seconds in which a client that has connected sends its request, where one is connected; and
#: between two looks whether one is.
_ASKING_SECONDS, _COUNTING_SECONDS = 3.0, 0.02
#: Seconds between two looks whether requests run, and where they may run for ever.
_LOOKING_SECONDS, _LONGEST_IDLING = 0.005, 30


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; ``ConfigError`` says why it cannot start.

    SIGHUP has certificates read again at once.
    """
    _raise_file_limit()
    shared = config.workers > 1
    output = open_output(config.log.file, shared=shared)
    try:
        configure(output, config.log.format)  # what is found while all is made is told there, too
        if how := os.environ.pop(_ENDED, ""):
            _log.error("the server before this one %s", how)
        if shared:
            return WorkersParent(config, partial(_work, output)).run()
        uvloop.run(_serve_until_signal(config, output, None))
    finally:
        with contextlib.suppress(OSError):  # its disk may be full
            output.close()
    return 0


def _work(output: TextIO, worker: Worker) -> None:
    """Serve as one of several processes."""
    uvloop.run(_serve_until_signal(worker.config, output, worker))


async def _serve_until_signal(config: Config, output: TextIO, worker: Worker | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watches: list[CertificateWatch] = []
    loop.add_signal_handler(signal.SIGHUP, _read_again, watches)
    # Those that came before somebody took them have waited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    await serve(config, output, stop, watches, worker)


def _read_again(watches: list[CertificateWatch]) -> None:
    for watch in watches:
        watch.read()


async def serve(
    config: Config,
    output: TextIO,
    stop: asyncio.Event,
    watches: list[CertificateWatch] | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve until ``stop`` is set; then running requests end first, for a while.

    ``watches`` gets what looks at the certificates.
    """
    async with AsyncExitStack() as stack:
        service = await build(config, output, stack)
        if worker is not None:
            await _share(service, worker.siblings, stack)
        shared = worker.sockets if worker is not None else take_ports(config)
        running = Listening(service, config.limits, stack, shared)
        configure(output, config.log.format)
        await running.start()
        if watches is not None:
            watches += running.watches
        _log.info("buildset-registry %s serves: %s", __version__, _ports(service))
        if service.control is not None:
            await service.control.listen(running.ports)
        if worker is not None:
            worker.serves()
        else:
            notify(READY)
        await _until_stopped(service, running, stop, config.limits.shutdown_seconds)


async def _share(service: RegistryProcess, siblings: Siblings, stack: AsyncExitStack) -> None:
    """Let the listeners for operators tell of all workers."""
    for listener in service.listeners:
        if isinstance(listener.app, MetricsListener):
            await listener.app.share(siblings)
            stack.callback(siblings.close)


@dataclass(frozen=True, slots=True)
class _Certificate:
    """A certificate, and what has to be done with a new one."""

    pair: CertificateSource
    current: Credentials
    users: list[Callable[[Credentials], None]]

    def renew(self, new: Credentials) -> None:
        for use in self.users:
            use(new)


class Listening:
    """The servers of all listeners, with what looks at their connections and certificates."""

    def __init__(
        self,
        service: RegistryProcess,
        limits: LimitSettings,
        stack: AsyncExitStack,
        shared: Mapping[str, socket.socket],
    ) -> None:
        self._limits = limits
        self._shared = shared
        self.ports: list[socket.socket] = []
        """The sockets that clients connect to."""
        self._stack = stack
        self._proxy = service.proxy
        self._tls = service.tls
        self._certificates: dict[CertificateSource, _Certificate] = {}
        self._each = affordable(
            limits.connections,
            len(service.listeners),
            tls=any(one.tls for one in service.listeners),
            fetches=limits.fetches,
        )
        service.crowd.most_of_all = most_requests(self._each, len(service.listeners))
        self._budget = ConnectionBudget(service.crowd, limits.client_connections, self._each)
        stack.callback(self._budget.close)
        self._servers = [
            (self._server(one), self._certificate(one.tls), one) for one in service.listeners
        ]
        self.watches: list[CertificateWatch] = []

    async def start(self) -> None:
        """Let clients in; ``ConfigError`` where a port is taken."""
        if self._proxy is not None:
            await self._listen(self._proxy)
        for server, certificate, _listener in self._servers:
            server.start(certificate.current if certificate else None)
            if certificate is not None:
                certificate.users.append(server.renew)
        self._in_background("the look at the connections", self._budget.run)
        for one in self._certificates.values():
            watch = CertificateWatch(one.pair, one.current, one.renew)
            self.watches.append(watch)
            self._in_background("the look at the certificate", watch.run)

    @property
    def serving(self) -> list[asyncio.Future[None]]:
        """Return what ends when no request runs any more."""
        return [task for server, _tls, _listener in self._servers for task in server.serving]

    @property
    def ended(self) -> bool:
        """Tell whether a server has ended by itself."""
        return any(server.ended for server, _tls, _listener in self._servers)

    async def pause(self) -> None:
        """Let who has connected ask; who connects from now on waits."""
        for server, _tls, _listener in self._servers:
            server.pause()
        until = time.monotonic() + _ASKING_SECONDS
        while time.monotonic() < until:
            if not await asyncio.to_thread(self._budget.connected):
                break
            await asyncio.sleep(_COUNTING_SECONDS)

    def stop(self) -> None:
        """Let nobody else in."""
        if self._proxy is not None:
            self._proxy.proxy.refuse()
        for server, _tls, _listener in self._servers:
            server.stop()

    def _server(self, listener: Listener) -> HttpServer:
        sock = listener.socket
        if sock is None:
            sock = self._open(listener.address, listener.port, listener.name)
            self._budget.watch(listener.port)
        return HttpServer(listener.app, sock, self._each, buffer=listener.buffer)

    def _open(self, address: str, port: int, name: str) -> socket.socket:
        """Listen, or take the socket that all workers have."""
        sock = self._shared.get(name)
        if sock is None:
            sock = open_listener(address, port, name, self._limits.answer_seconds)
        self.ports.append(sock)
        return self._stack.enter_context(sock)

    def _certificate(self, pair: CertificateSource | None) -> _Certificate | None:
        if pair is not None and pair not in self._certificates:
            self._certificates[pair] = _Certificate(pair, pair.read(), [])
        return self._certificates[pair] if pair else None

    async def _listen(self, proxy: DockerProxy) -> None:
        """Let clients of the proxy in."""
        listener = self._open(proxy.address, proxy.port, "proxy")
        certificate = self._certificate(self._tls)
        context = certificate.current.context() if certificate else None
        self._budget.watch(proxy.port)
        await proxy.proxy.listen(listener, context)
        if certificate is not None and context is not None:
            certificate.users.append(lambda new: new.load_into(context))

    def _in_background(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._stack.push_async_callback(background.stop, background.supervised(name, work))


def _ports(service: RegistryProcess) -> str:
    """Return the listeners and their ports; not the one for the registry itself."""
    ports = {one.name: one.port for one in service.listeners if one.socket is None}
    if service.proxy is not None:
        ports["proxy"] = service.proxy.port
    return ", ".join(f"{name} on port {port}" for name, port in ports.items())


async def _until_stopped(
    service: RegistryProcess, running: Listening, stop: asyncio.Event, seconds: int
) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    while not stopped.done() and not running.ended:
        ends: list[asyncio.Future[Any]] = [stopped, *running.serving]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        _log.info("stopping: running requests are finished first")
        notify(STOPPING)
        if service.handed_over:
            seconds -= await _wait_until_idle(service, seconds)
            await running.pause()
    stopped.cancel()
    running.stop()
    serving = running.serving
    late = (await asyncio.wait(serving, timeout=seconds or None))[1]
    if late:
        _log.warning("requests still run after %d seconds; they are broken off", seconds)
        for task in late:
            task.cancel()
    await asyncio.gather(*serving, return_exceptions=bool(late))


async def _wait_until_idle(service: RegistryProcess, seconds: int) -> int:
    """Serve on for a while, until no request runs; returns the seconds that it took.

    What connects later waits for the next server, and clients wait ten seconds for TLS (Go's
    net/http): so of the time that requests may take, most is spent before anybody waits.
    """
    began = time.monotonic()
    most = (seconds or _LONGEST_IDLING) * 2 / 3
    while time.monotonic() - began < most:
        if service.idle:
            break
        await asyncio.sleep(_LOOKING_SECONDS)
    # One that is left: none would be for ever.
    return min(int(time.monotonic() - began), seconds - 1) if seconds else 0


def _raise_file_limit() -> None:
    """Allow as many open files as this user may have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
