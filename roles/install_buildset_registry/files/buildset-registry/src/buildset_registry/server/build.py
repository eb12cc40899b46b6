# SPDX-License-Identifier: Apache-2.0
"""From the configuration to the objects that serve: the one place that takes it apart.

Everything mutable of the process is made here, and its end is put on the stack of the caller, in
the order in which it has to be closed. What is made here takes values, not the configuration.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TextIO

from buildset_registry import __version__
from buildset_registry.auth.access import Role
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.background import stop
from buildset_registry.config import (
    Config,
    WebhookSettings,
)
from buildset_registry.connect_proxy import (
    LOOPBACK,
    Admission,
    ConnectProxy,
    Dialer,
    Limits,
    LoopbackApp,
    LoopbackEndpoint,
    ProxiedConnections,
    server_of,
)
from buildset_registry.gc import Collector
from buildset_registry.http.accesslog import (
    AccessLog,
    AccessRecord,
    AnswerNotes,
    LedgerNotes,
    UseNotes,
)
from buildset_registry.http.app import App
from buildset_registry.http.asgi import Application
from buildset_registry.http.bodies import BodyBudget
from buildset_registry.http.context import (
    Context,
    Crowd,
    RequestLimits,
    StreamedClients,
    UploadLimit,
)
from buildset_registry.http.events import Events
from buildset_registry.ledger.ledger import Ledger
from buildset_registry.ledger.opening import keep_ledger
from buildset_registry.metrics.counters import RequestCounters
from buildset_registry.metrics.listener import MetricsListener, Sources
from buildset_registry.notifications.events import Source
from buildset_registry.notifications.webhook import Receiver, Webhook
from buildset_registry.overlay.client import OverlayClient
from buildset_registry.overlay.table import OverlaidTags
from buildset_registry.pullthrough import FetchPlaces, Freshness, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.retention import Leases, Retention
from buildset_registry.server.access_control import AccessControl
from buildset_registry.server.certificates import CertificateSource, KeyPair, certificate_of
from buildset_registry.server.collection import collection_rules, keep_leases, keep_retention
from buildset_registry.server.condition import Notice, ProcessCondition
from buildset_registry.server.connections import affordable_fetches
from buildset_registry.server.control_socket import ControlSocket
from buildset_registry.server.replay import (
    locked_tags,
    upstream_client,
    warn_of_missing,
)
from buildset_registry.server.sockets import every_address, open_listener
from buildset_registry.sources import FixedTags
from buildset_registry.store import open_store, store_kind
from buildset_registry.store.base import Store

#: Bytes that Granian takes of a connection at once, less than by itself: a client that does not
#: read holds as much of an answer.
BUFFER = 64 * 1024
#: The same where images are pushed, more than by itself: handing over a piece of a body wakes three
#: threads in turn.
_PUSH_BUFFER = 1024 * 1024
#: The same where they are sent on to a service of objects: each client holds several such pieces,
#: beside the parts that are gathered, and the service is what is waited for.
_SENT_ON_BUFFER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Listener:
    """An application, and the port that Granian serves it on."""

    name: str
    address: str
    port: int
    app: Application
    tls: CertificateSource | None
    socket: socket.socket | None = None
    """Its socket where it listens already: for the registry itself, on a port that the kernel
    chose."""

    buffer: int = BUFFER
    """Bytes that the server takes of a connection at once."""


@dataclass(frozen=True, slots=True)
class DockerProxy:
    """The proxy for docker, its own port, and the endpoint behind it, which is on loopback."""

    proxy: ConnectProxy
    address: str
    port: int
    endpoint: Listener


@dataclass(frozen=True, slots=True)
class RegistryProcess:
    """The objects of one process that have to be started."""

    listeners: list[Listener]
    proxy: DockerProxy | None
    tls: CertificateSource | None
    control: ControlSocket | None
    """The socket by which commands ask the server; none where no folder is used."""

    crowd: Crowd
    """What the endpoints know of clients that hold too many connections."""

    counters: Sequence[RequestCounters]

    @property
    def idle(self) -> bool:
        """Tell whether no request runs."""
        return not any(one.running for one in self.counters)

    @property
    def handed_over(self) -> bool:
        """Tell whether somebody holds the ports for the next server."""
        return self.control is not None and self.control.handed_over


async def build(config: Config, output: TextIO, stack: AsyncExitStack) -> RegistryProcess:
    """Make what the configuration says; ``stack`` ends it. ``ConfigError`` for a mistake."""
    backend = await _backend(config, output, stack)
    collector = _collector(config, backend, stack)
    control = _control(config, backend, collector, stack)
    tls = await certificate_of(config, backend.store, stack)
    applications = Applications(config, backend)
    proxy = _docker_proxy(config, applications, stack)
    listeners = [proxy.endpoint] if proxy else []
    elsewhere = f"push to port {_push_port(config)} of this registry"
    ends = config.endpoints
    for role, end in ((Role.PULL, ends.pull), (Role.PUSH, ends.push), (Role.SINGLE, ends.single)):
        if end is not None:
            app = applications.endpoint(role, role.value, elsewhere)
            address, buffer = end.address or every_address(), _buffer(config, role)
            listeners.append(Listener(role.value, address, end.port, app, tls, buffer=buffer))
    if config.metrics is not None:
        address, port = config.metrics.address, config.metrics.port
        operators = applications.metrics(collector, tls)
        listeners.append(Listener("metrics", address, port, operators, None))
    crowd, counters = applications.crowd, applications.counters
    return RegistryProcess(listeners, proxy, tls, control, crowd, counters)


def _buffer(config: Config, role: Role) -> int:
    """Return how much is taken at once by an endpoint."""
    if role is Role.PULL:
        return BUFFER
    return _PUSH_BUFFER if store_kind(config).alone else _SENT_ON_BUFFER


@dataclass(frozen=True, slots=True)
class Backend:
    """The objects that all endpoints share."""

    access: AccessControl
    store: Store
    pull_through: PullThrough
    access_log: AccessLog
    uploads: UploadLimit
    webhooks: list[Webhook]
    fixed: Sequence[FixedTags]
    """What upstream's tags mean, whatever upstream says."""

    ledger: Ledger | None
    retention: Retention | None
    leases: Leases


async def _backend(config: Config, output: TextIO, stack: AsyncExitStack) -> Backend:
    private = frozenset(upstream.name for upstream in config.upstreams if upstream.private)
    locked = locked_tags(config)
    overlaid = OverlaidTags(config.overlay.folder) if config.overlay else None
    fixed: Sequence[FixedTags] = [*([overlaid] if overlaid else []), *locked]
    access = AccessControl(config.auth, private)
    stack.callback(access.close)
    store = await open_store(config)
    stack.push_async_callback(store.aclose)
    access_log = AccessLog(output, config.log.format)
    stack.callback(access_log.flush)
    client = upstream_client(config)
    freshness = Freshness(config.pull_through.tag_seconds)
    through = OverlayClient(client, overlaid, store) if overlaid else client
    places = FetchPlaces(affordable_fetches(config.limits.fetches))
    pull_through = PullThrough(store, through, freshness, fixed=fixed, places=places)
    stack.push_async_callback(pull_through.close)
    for table in locked:
        check = asyncio.ensure_future(warn_of_missing(client, table.lock))
        stack.push_async_callback(stop, check)
    ends = config.endpoints
    first = ends.push or ends.single or ends.pull
    source = Source(first.port if first else 0)
    webhooks = [Webhook(_receiver(webhook), source) for webhook in config.notifications]
    stack.push_async_callback(_close_all, webhooks)
    uploads = UploadLimit(config.limits.uploads)
    ledger = None
    if config.ledger is not None:
        ledger = keep_ledger(config.ledger, store, client.counters, overlaid)
        stack.push_async_callback(ledger.close)
    retention = await keep_retention(config, store, stack)
    leases = keep_leases(store, stack)
    return Backend(
        access, store, pull_through, access_log, uploads, webhooks, fixed, ledger, retention, leases
    )


async def _close_all(webhooks: list[Webhook]) -> None:
    await asyncio.gather(*(webhook.close() for webhook in webhooks))


def _collector(config: Config, backend: Backend, stack: AsyncExitStack) -> Collector:
    interval = 0 if config.read_only else config.gc.interval
    rules = collection_rules(config.gc, backend.retention, backend.leases)
    at_upstream = backend.pull_through.has_manifest
    collector = Collector(backend.store, rules, interval, at_upstream)
    stack.push_async_callback(collector.close)
    return collector


def _control(
    config: Config, backend: Backend, collector: Collector, stack: AsyncExitStack
) -> ControlSocket | None:
    space = backend.store.space
    rules = backend.retention.policy.fingerprint if backend.retention else ""
    condition = ProcessCondition(space, collector, backend.pull_through.counters, rules)
    if space.replicas is not None:
        stack.push_async_callback(Notice(space.replicas, condition).close)
    path = store_kind(config).control_socket(config)
    if path is None:
        return None
    control = ControlSocket(collector, condition.tell, path)
    stack.push_async_callback(control.close)
    return control


class Applications:
    """Makes the applications of the listeners; the metrics are of those made before."""

    def __init__(self, config: Config, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self.counters: list[RequestCounters] = []
        # A connection has one request, and the next may begin before that has quite ended.
        self.crowd = Crowd(most=2 * config.limits.client_connections)
        self._bodies = BodyBudget()

    def endpoint(self, role: Role, name: str, elsewhere: str) -> App:
        """Return an endpoint; ``elsewhere`` says to its clients where they may push."""
        config, backend, retention = self._config, self._backend, self._backend.retention
        through = None if role is Role.PUSH else backend.pull_through
        authenticator = self.authenticator(role)
        context = Context(
            Registry(
                backend.store,
                through,
                sparse=config.sparse_images,
                fixed=backend.fixed,
                removals=retention.removals if retention else None,
            ),
            authenticator.policy,
            authenticator,
            elsewhere,
            backend.store.space,
            backend.uploads,
            RequestLimits(config.read_only, config.limits.body_seconds),
            config.absolute_urls,
            self.crowd,
            backend.pull_through.arriving,
            StreamedClients(config.redirect.except_networks, config.redirect.except_agents),
            retention.quotas if retention else None,
            backend.leases,
            config.overlay.folder if config.overlay else None,
            self._bodies,
        )
        events = Events([*backend.webhooks], context) if backend.webhooks else None
        notes: list[AnswerNotes] = []
        if backend.ledger is not None:
            notes.append(LedgerNotes(backend.ledger.sightings))
        if retention is not None:
            notes.append(UseNotes(retention.uses))
        return App(context, self.record(name), events, notes)

    def metrics(self, collector: Collector, tls: CertificateSource | None) -> MetricsListener:
        """Return the listener for operators."""
        backend = self._backend
        return MetricsListener(
            Sources(
                self.counters,
                backend.uploads,
                backend.pull_through.counters,
                backend.store.space,
                collector.history,
                backend.webhooks,
                tls.times if tls else None,
                tls.orders if tls else None,
            )
        )

    def authenticator(self, role: Role) -> Authenticator:
        """Return the authenticator of an endpoint, which has its policy."""
        return self._backend.access.authenticator(role)

    def record(self, name: str) -> AccessRecord:
        """Return the record of the requests to a listener."""
        counters = RequestCounters(name)
        self.counters.append(counters)
        return AccessRecord(self._backend.access_log, counters)


def _docker_proxy(
    config: Config, applications: Applications, stack: AsyncExitStack
) -> DockerProxy | None:
    """Return the proxy for docker, if there is to be one."""
    settings = config.proxy
    if settings is None:
        return None
    connections = ProxiedConnections()
    own = stack.enter_context(open_listener(LOOPBACK, 0, "proxied", config.limits.answer_seconds))
    port = int(own.getsockname()[1])
    record, authenticator = applications.record("proxy"), applications.authenticator(Role.PULL)
    elsewhere = (
        "docker uses the proxy of the buildset registry here; push to port "
        f"{_push_port(config)} of the buildset registry, or with a client that does not use the "
        "proxy"
    )
    endpoint = applications.endpoint(Role.PULL, "proxied", elsewhere)
    app = LoopbackApp(endpoint, connections, f"buildset-registry/{__version__}")
    registries = {server_of(name): name for name in config.proxied}
    proxy = ConnectProxy(
        Admission(authenticator.policy, authenticator),
        LoopbackEndpoint(registries, port, connections),
        Dialer(frozenset(settings.ports), os.environ),
        Limits(settings.tunnels, settings.idle_seconds),
        record,
    )
    stack.push_async_callback(proxy.close)
    pair = KeyPair(settings.tls.certificate, settings.tls.key)
    listener = Listener("proxied", LOOPBACK, port, app, pair, socket=own)
    return DockerProxy(proxy, settings.address or every_address(), settings.port, listener)


def _push_port(config: Config) -> int:
    push = config.endpoints.push or config.endpoints.single
    return push.port if push else 0


def _receiver(settings: WebhookSettings) -> Receiver:
    return Receiver(
        name=settings.name,
        url=settings.url,
        headers=settings.headers,
        ca=settings.ca,
        timeout=settings.timeout_seconds,
        wait=settings.retry_seconds,
        room=max(1, settings.queue),
        ignored_actions=frozenset(settings.ignore_actions),
        ignored_media_types=frozenset(settings.ignore_media_types),
    )
