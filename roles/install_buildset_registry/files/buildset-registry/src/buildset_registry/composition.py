# SPDX-License-Identifier: Apache-2.0
"""From the configuration to what listens: the endpoints' applications, and what they share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from buildset_registry import __version__
from buildset_registry.assembly import Guards, receiver
from buildset_registry.auth.access import Role
from buildset_registry.config import Config, Tls
from buildset_registry.http.accesslog import AccessLog
from buildset_registry.http.app import App
from buildset_registry.http.asgi import Application
from buildset_registry.http.context import Context, RequestLimits
from buildset_registry.http.journal import Journal
from buildset_registry.http.notices import Notices
from buildset_registry.http.operations import Operations, Sources
from buildset_registry.http.traffic import Traffic
from buildset_registry.http.transfers import Transfers
from buildset_registry.listening import (
    Reserved,
    check_free,
    checked_pair,
    every_address,
    open_listener,
    server_context,
)
from buildset_registry.notifications.events import Source
from buildset_registry.notifications.webhook import Webhook
from buildset_registry.proxy import (
    LOOPBACK,
    Bounds,
    Door,
    Inside,
    Proxy,
    Reach,
    Visitors,
    Within,
    server_of,
)
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem import FilesystemStore
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.rules import Rules


@dataclass(frozen=True, slots=True)
class Listener:
    """An application, and where it is to be had."""

    name: str
    address: str | None
    port: int
    app: Application
    tls: Tls | None
    reserved: bool = False
    """Whether its port is kept free for it already."""

    pushes: bool = False
    """Whether images are pushed to it."""


@dataclass(frozen=True, slots=True)
class Proxying:
    """The proxy for docker, and the endpoint behind it."""

    proxy: Proxy
    address: str
    port: int
    inside: Listener
    traffic: list[Traffic]
    reserved: Reserved

    async def listen(self, tls: Tls | None) -> None:
        """Let clients in; ``ConfigError`` where the port is taken."""
        check_free(self.address, self.port, "proxy")
        listener = open_listener(self.address, self.port)
        await self.proxy.listen(listener, server_context(tls) if tls else None)

    async def close(self) -> None:
        """End every tunnel."""
        await self.proxy.close()
        self.reserved.close()


@dataclass(frozen=True, slots=True)
class Shared:
    """What the endpoints share."""

    guards: Guards
    store: FilesystemStore | MemoryStore
    pull_through: PullThrough
    access_log: AccessLog
    transfers: Transfers
    webhooks: list[Webhook]


def share(config: Config, output: TextIO) -> Shared:
    """Make what all endpoints use."""
    guards = Guards(config)
    client = UpstreamClient(Rules(config.upstreams))
    store = _open_store(config)
    ends = config.endpoints
    first = ends.push or ends.single or ends.pull
    source = Source(first.port if first else 0)
    return Shared(
        guards,
        store,
        PullThrough(store, client, tag_seconds=config.pull_through.tag_seconds),
        AccessLog(output, config.log.format),
        Transfers(config.limits.uploads),
        [Webhook(receiver(webhook), source) for webhook in config.notifications],
    )


def listeners(
    config: Config, shared: Shared, tls: Tls | None, proxying: Proxying | None
) -> list[Listener]:
    """Return what is to listen by HTTP."""
    ends = config.endpoints
    push = _push_port(config)
    chosen = [(Role.PULL, ends.pull), (Role.PUSH, ends.push), (Role.SINGLE, ends.single)]
    found: list[Listener] = []
    all_traffic: list[Traffic] = []
    if proxying is not None:
        found.append(proxying.inside)
        all_traffic += proxying.traffic
    for role, endpoint in chosen:
        if endpoint is None:
            continue
        traffic = Traffic(role.value)
        all_traffic.append(traffic)
        context = _context(config, shared, role, f"push to port {push} of this registry")
        app = _app(shared, context, traffic)
        pushes = role is not Role.PULL
        found.append(Listener(role.value, endpoint.address, endpoint.port, app, tls, pushes=pushes))
    if config.metrics is not None:
        counters, space = shared.pull_through.counters, shared.store.space
        operations = Operations(
            Sources(all_traffic, shared.transfers, counters, space, shared.webhooks)
        )
        address, port = config.metrics.address, config.metrics.port
        found.append(Listener("metrics", address, port, operations, None))
    return found


def _app(shared: Shared, context: Context, traffic: Traffic) -> App:
    notices = Notices([*shared.webhooks], context) if shared.webhooks else None
    return App(context, Journal(shared.access_log, traffic), notices)


def _context(config: Config, shared: Shared, role: Role, elsewhere: str) -> Context:
    guard = shared.guards.guard(role)
    through = None if role is Role.PUSH else shared.pull_through
    return Context(
        Registry(shared.store, through, sparse=config.sparse_images),
        guard.policy,
        guard.authenticator,
        elsewhere,
        shared.store.space,
        shared.transfers,
        RequestLimits(config.read_only, config.limits.body_seconds),
        config.absolute_urls,
    )


def _open_store(config: Config) -> FilesystemStore | MemoryStore:
    if isinstance(config.storage, Path):
        return FilesystemStore(config.storage, config.limits.free_bytes, durable=config.durable)
    return MemoryStore()


def _push_port(config: Config) -> int:
    push = config.endpoints.push or config.endpoints.single
    return push.port if push else 0


def proxying(config: Config, shared: Shared, folder: Path) -> Proxying | None:
    """Return the proxy for docker, if there is to be one; ``folder`` may hold a converted key."""
    settings = config.proxy
    if settings is None:
        return None
    tls = checked_pair(settings.tls, folder)
    guard = shared.guards.guard(Role.PULL)
    reserved, visitors = Reserved(LOOPBACK), Visitors()
    outer, inner = Traffic("proxy"), Traffic("proxied")
    elsewhere = (
        "docker reaches this registry by the buildset registry's proxy; push to port "
        f"{_push_port(config)} of that, or by a client that does not use the proxy"
    )
    context = _context(config, shared, Role.PULL, elsewhere)
    app = Inside(_app(shared, context, inner), visitors, f"buildset-registry/{__version__}")
    proxy = Proxy(
        Door(guard.policy, guard.authenticator),
        Within({server_of(name): name for name in config.proxied}, reserved.port, visitors),
        Reach(frozenset(settings.ports), os.environ),
        Bounds(settings.tunnels, settings.idle_seconds),
        Journal(shared.access_log, outer),
    )
    inside = Listener("proxied", LOOPBACK, reserved.port, app, tls, reserved=True)
    address = settings.address or every_address()
    return Proxying(proxy, address, settings.port, inside, [outer, inner], reserved)
