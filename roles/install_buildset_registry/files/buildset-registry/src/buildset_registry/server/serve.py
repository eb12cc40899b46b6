# SPDX-License-Identifier: Apache-2.0
"""Serving: the listeners run on one event loop until a signal, and running requests end first.

The only module that knows Granian. HTTP/1.1 only: with HTTP/2 switched on, Granian hands uploads
over in 16 KiB pieces (four times the CPU).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
from contextlib import AsyncExitStack
from typing import TextIO

import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from buildset_registry import __version__
from buildset_registry.config import Config
from buildset_registry.server.build import DockerProxy, Listener, RegistryProcess, build
from buildset_registry.server.logs import configure, open_output
from buildset_registry.server.sockets import KeyPair, check_free, open_listener

#: Connections that may wait to be accepted, and that may be served at once.
_BACKLOG = 1024
_CONNECTIONS = 4096
#: Seconds for the head of a request, so that a client that trickles it does not keep its place.
_HEAD_SECONDS = 30
#: Bytes that Granian takes at once where images are pushed, more than by itself: handing over
#: a piece of a body wakes three threads in turn.
_PUSH_BUFFER = 1024 * 1024

_log = logging.getLogger("buildset_registry")


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; ``ConfigError`` says why it cannot start."""
    _raise_file_limit()
    output = open_output(config.log.file)
    try:
        uvloop.run(_serve_until_signal(config, output))
    finally:
        with contextlib.suppress(OSError):  # its disk may be full
            output.close()


async def _serve_until_signal(config: Config, output: TextIO) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(config, output, stop)


async def serve(config: Config, output: TextIO, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; then running requests end first, for a while."""
    async with AsyncExitStack() as stack:
        service = await build(config, output, stack)
        servers = [_server(listener) for listener in service.listeners]
        configure(output, config.log.format)
        if service.proxy is not None:
            await _listen(service.proxy, service.tls)
        _log.info("buildset-registry %s serves: %s", __version__, _ports(service))
        if service.control is not None:
            await service.control.listen()
        await _until_stopped(servers, stop, config.limits.shutdown_seconds, service.proxy)


async def _listen(proxy: DockerProxy, tls: KeyPair | None) -> None:
    """Let clients of the proxy in; ``ConfigError`` where the port is taken."""
    check_free(proxy.address, proxy.port, "proxy")
    listener = open_listener(proxy.address, proxy.port)
    await proxy.proxy.listen(listener, tls.context() if tls else None)


def _ports(service: RegistryProcess) -> str:
    """Return the listeners and their ports; not the one for the registry itself."""
    ports = {one.name: one.port for one in service.listeners if not one.reserved}
    if service.proxy is not None:
        ports["proxy"] = service.proxy.port
    return ", ".join(f"{name} on port {port}" for name, port in ports.items())


async def _until_stopped(
    servers: list[Server], stop: asyncio.Event, seconds: int, proxy: DockerProxy | None
) -> None:
    serving = [asyncio.ensure_future(server.serve()) for server in servers]
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        _log.info("stopping: running requests are finished first")
    stopped.cancel()
    if proxy is not None:
        proxy.proxy.refuse()
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it unannotated
    running = (await asyncio.wait(serving, timeout=seconds or None))[1]
    if running:
        _log.warning("requests still run after %d seconds; they are broken off", seconds)
        for task in running:
            task.cancel()
    await asyncio.gather(*serving, return_exceptions=bool(running))


def _server(listener: Listener) -> Server:
    tls = listener.tls
    if not listener.reserved:
        check_free(listener.address, listener.port, listener.name)
    settings = HTTP1Settings(header_read_timeout=_HEAD_SECONDS * 1000)
    if listener.pushes:
        settings.max_buffer_size = _PUSH_BUFFER
    return Server(
        listener.app,
        listener.address,
        listener.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=settings,
        websockets=False,
        runtime_threads=1,
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        log_enabled=False,
        ssl_protocol_min=SSLProtocols.tls12,
        ssl_cert=tls.certificate if tls else None,
        ssl_key=tls.key if tls else None,
    )


def _raise_file_limit() -> None:
    """Allow as many open files as this user may have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
