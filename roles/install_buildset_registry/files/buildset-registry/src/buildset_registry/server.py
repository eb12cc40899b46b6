# SPDX-License-Identifier: Apache-2.0
"""The composition root: from a configuration to listeners on one event loop.

Everything mutable is constructed here and closed here. The only module that knows Granian. HTTP/1.1
only: with HTTP/2 switched on, Granian hands uploads over in 16 KiB pieces (four times the CPU).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import uvloop
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from buildset_registry import __version__
from buildset_registry.assembly import Guards, collection_rules, receiver
from buildset_registry.auth.access import Role
from buildset_registry.config import Config, Tls
from buildset_registry.control import Control
from buildset_registry.gc import Collector
from buildset_registry.http.accesslog import AccessLog
from buildset_registry.http.app import App
from buildset_registry.http.asgi import Application
from buildset_registry.http.context import Context, RequestLimits
from buildset_registry.http.journal import Journal
from buildset_registry.http.notices import Notices
from buildset_registry.http.operations import Operations, Sources
from buildset_registry.http.traffic import Traffic
from buildset_registry.http.transfers import Transfers
from buildset_registry.listening import check_free, checked_pair, every_address
from buildset_registry.logs import configure, open_output
from buildset_registry.notifications.events import Source
from buildset_registry.notifications.webhook import Webhook
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import FilesystemStore
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.rules import Rules

#: Connections that may wait to be accepted, and that may be served at once.
_BACKLOG = 1024
_CONNECTIONS = 4096
#: Seconds for the head of a request, so that a client that trickles it does not keep its place.
_HEAD_SECONDS = 30

_log = logging.getLogger("buildset_registry")


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; ``ConfigError`` says why it cannot start."""
    _raise_file_limit()
    with open_output(config.log) as output:
        uvloop.run(_serve_until_signal(config, output))


async def _serve_until_signal(config: Config, output: TextIO) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(config, output, stop)


@dataclass(frozen=True, slots=True)
class _Listener:
    name: str
    address: str | None
    port: int
    app: Application
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the endpoints share."""

    guards: Guards
    store: FilesystemStore | MemoryStore
    pull_through: PullThrough
    access_log: AccessLog
    transfers: Transfers
    webhooks: list[Webhook]


async def serve(config: Config, output: TextIO, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; then running requests end first, for a while."""
    shared = _shared(config, output)
    interval = 0 if config.read_only else config.gc.interval
    collector = Collector(shared.store, collection_rules(config.gc), interval)
    control = Control(collector)
    private = TemporaryDirectory(prefix="buildset-registry-")
    try:
        tls = checked_pair(config.tls, Path(private.name)) if config.tls else None
        listeners = _listeners(config, shared, tls)
        servers = [_server(listener) for listener in listeners]
        configure(output, config.log)
        ports = ", ".join(f"{item.name} on port {item.port}" for item in listeners)
        _log.info("buildset-registry %s serves: %s", __version__, ports)
        if isinstance(config.storage, Path):
            await control.listen(config.storage)
        await _until_stopped(servers, stop, config.limits.shutdown_seconds)
    finally:
        await control.close()
        await collector.close()
        await asyncio.gather(*(webhook.close() for webhook in shared.webhooks))
        await shared.pull_through.close()
        shared.guards.close()
        shared.access_log.flush()
        private.cleanup()
        shared.store.close()


async def _until_stopped(servers: list[Server], stop: asyncio.Event, patience: int) -> None:
    serving = [asyncio.ensure_future(server.serve()) for server in servers]
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        _log.info("stopping: running requests are finished first")
    stopped.cancel()
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it unannotated
    running = (await asyncio.wait(serving, timeout=patience or None))[1]
    if running:
        _log.warning("requests still run after %d seconds; they are broken off", patience)
        for task in running:
            task.cancel()
    await asyncio.gather(*serving, return_exceptions=bool(running))


def _shared(config: Config, output: TextIO) -> _Shared:
    guards = Guards(config)
    client = UpstreamClient(Rules(config.upstreams))
    store = _open_store(config)
    ends = config.endpoints
    first = ends.push or ends.single or ends.pull
    source = Source(first.port if first else 0)
    return _Shared(
        guards,
        store,
        PullThrough(store, client, tag_seconds=config.pull_through.tag_seconds),
        AccessLog(output, config.log.format),
        Transfers(config.limits.uploads),
        [Webhook(receiver(webhook), source) for webhook in config.notifications],
    )


def _listeners(config: Config, shared: _Shared, tls: Tls | None) -> list[_Listener]:
    ends = config.endpoints
    chosen = [(Role.PULL, ends.pull), (Role.PUSH, ends.push), (Role.SINGLE, ends.single)]
    listeners, all_traffic = [], []
    for role, endpoint in chosen:
        if endpoint is None:
            continue
        traffic = Traffic(role.value)
        all_traffic.append(traffic)
        context = _context(config, shared, role)
        notices = Notices([*shared.webhooks], context) if shared.webhooks else None
        app = App(context, Journal(shared.access_log, traffic), notices)
        listeners.append(_Listener(role.value, endpoint.address, endpoint.port, app, tls))
    if config.metrics is not None:
        counters, space = shared.pull_through.counters, shared.store.space
        operations = Operations(
            Sources(all_traffic, shared.transfers, counters, space, shared.webhooks)
        )
        address, port = config.metrics.address, config.metrics.port
        listeners.append(_Listener("metrics", address, port, operations, None))
    return listeners


def _context(config: Config, shared: _Shared, role: Role) -> Context:
    guard = shared.guards.guard(role)
    through = None if role is Role.PUSH else shared.pull_through
    push = config.endpoints.push or config.endpoints.single
    return Context(
        Registry(shared.store, through, sparse=config.sparse_images),
        guard.policy,
        guard.authenticator,
        push.port if push else 0,
        shared.store.space,
        shared.transfers,
        RequestLimits(config.read_only, config.limits.body_seconds),
        config.absolute_urls,
    )


def _open_store(config: Config) -> FilesystemStore | MemoryStore:
    if isinstance(config.storage, Path):
        return FilesystemStore(config.storage, config.limits.free_bytes)
    return MemoryStore()


def _server(listener: _Listener) -> Server:
    address, tls = listener.address or every_address(), listener.tls
    check_free(address, listener.port, listener.name)
    return Server(
        listener.app,
        address,
        listener.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEAD_SECONDS * 1000),
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
