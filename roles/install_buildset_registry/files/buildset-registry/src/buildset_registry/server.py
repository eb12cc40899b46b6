# SPDX-License-Identifier: Apache-2.0
"""The composition root: from a configuration to listeners on one event loop.

Everything mutable is constructed here and closed here. The only module that knows Granian. HTTP/1.1
only: with HTTP/2 switched on, Granian hands uploads over in 16 KiB pieces (four times the CPU).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TextIO

import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.server.embed import Server

from buildset_registry import __version__
from buildset_registry.assembly import Guards
from buildset_registry.auth.access import Role
from buildset_registry.config import Config, Endpoint, Tls
from buildset_registry.errors import ConfigError
from buildset_registry.http.accesslog import AccessLog
from buildset_registry.http.app import App
from buildset_registry.http.context import Context
from buildset_registry.listening import check_free, checked_pair, every_address
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem import FilesystemStore
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.rules import Rules

#: Connections that may wait to be accepted, and that may be served at once.
_BACKLOG = 1024
_CONNECTIONS = 4096

_log = logging.getLogger("buildset_registry")


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; ``ConfigError`` says why it cannot start."""
    with _log_output(config.log.file) as output:
        uvloop.run(_serve_until_signal(config, output))


async def _serve_until_signal(config: Config, output: TextIO) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(config, output, stop)


@dataclass(frozen=True, slots=True)
class _Listener:
    role: Role
    endpoint: Endpoint
    app: App


async def serve(config: Config, output: TextIO, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; then running requests end first."""
    guards = Guards(config)
    store = _open_store(config.storage)
    access_log = AccessLog(output)
    pull_through = PullThrough(
        store,
        UpstreamClient(Rules(config.upstreams)),
        tag_seconds=config.pull_through.tag_seconds,
    )
    private = TemporaryDirectory(prefix="buildset-registry-")
    try:
        listeners = _listeners(config, guards, store, pull_through, access_log)
        tls = checked_pair(config.tls, Path(private.name)) if config.tls else None
        servers = [_server(listener, tls) for listener in listeners]
        _configure_logging(output)
        await _until_stopped(servers, listeners, stop)
    finally:
        await pull_through.close()
        guards.close()
        access_log.flush()
        private.cleanup()
        store.close()


async def _until_stopped(
    servers: list[Server], listeners: list[_Listener], stop: asyncio.Event
) -> None:
    serving = [asyncio.ensure_future(server.serve()) for server in servers]
    ports = ", ".join(f"{item.role.value} on port {item.endpoint.port}" for item in listeners)
    _log.info("buildset-registry %s serves: %s", __version__, ports)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        _log.info("stopping: running requests are finished first")
    stopped.cancel()
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it unannotated
    await asyncio.gather(*serving)


def _listeners(
    config: Config,
    guards: Guards,
    store: Store,
    pull_through: PullThrough,
    access_log: AccessLog,
) -> list[_Listener]:
    ends = config.endpoints
    chosen = [(Role.PULL, ends.pull), (Role.PUSH, ends.push), (Role.SINGLE, ends.single)]
    push = ends.push or ends.single
    listeners = []
    for role, endpoint in chosen:
        if endpoint is None:
            continue
        guard = guards.guard(role)
        through = None if role is Role.PUSH else pull_through
        registry = Registry(store, through, sparse=config.sparse_images)
        push_port = push.port if push else 0
        context = Context(
            registry, guard.policy, guard.authenticator, push_port, config.absolute_urls
        )
        listeners.append(_Listener(role, endpoint, App(context, access_log)))
    return listeners


def _open_store(storage: Path | Literal["memory"]) -> FilesystemStore | MemoryStore:
    return FilesystemStore(storage) if isinstance(storage, Path) else MemoryStore()


def _server(listener: _Listener, tls: Tls | None) -> Server:
    address = listener.endpoint.address or every_address()
    port = listener.endpoint.port
    check_free(address, port, listener.role.value)
    return Server(
        listener.app,
        address,
        port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        runtime_threads=1,
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        log_enabled=False,
        ssl_protocol_min=SSLProtocols.tls12,
        ssl_cert=tls.certificate if tls else None,
        ssl_key=tls.key if tls else None,
    )


def _log_output(path: Path | None) -> TextIO:
    if path is None:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the log {path}: {error.strerror}; set log.file") from None


def _configure_logging(output: TextIO) -> None:
    """Send messages where the access log goes; after Granian, which configures logging itself."""
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("buildset_registry")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
