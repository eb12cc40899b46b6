# SPDX-License-Identifier: Apache-2.0
"""From the configuration to what listens: the endpoints' applications, and what they share."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from buildset_registry import __version__
from buildset_registry.auth.access import Policy, Role
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.auth.claims import TokenVerifier
from buildset_registry.auth.external_tokens import ExternalTokens, TokenServer, load_keys
from buildset_registry.auth.htpasswd import Htpasswd
from buildset_registry.auth.rules import ACTIONS, EVERY, AccessRules, AccessRule
from buildset_registry.auth.tokens import Signing, TokenIssuer
from buildset_registry.config import (
    AuthSettings,
    Config,
    GcSettings,
    Tls,
    TokenServerSettings,
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
from buildset_registry.errors import ConfigError
from buildset_registry.gc import CollectionRules
from buildset_registry.http.accesslog import AccessLog, AccessRecord
from buildset_registry.http.app import App
from buildset_registry.http.asgi import Application
from buildset_registry.http.context import Context, RequestLimits, UploadLimit
from buildset_registry.http.events import Events
from buildset_registry.metrics.counters import RequestCounters
from buildset_registry.metrics.listener import MetricsListener, Sources
from buildset_registry.notifications.events import Source
from buildset_registry.notifications.webhook import Receiver, Webhook
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.server.sockets import (
    Reserved,
    check_free,
    checked_pair,
    every_address,
    open_listener,
    server_context,
)
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstreams


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

    proxy: ConnectProxy
    address: str
    port: int
    inside: Listener
    counters: list[RequestCounters]
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
    transfers: UploadLimit
    webhooks: list[Webhook]


def share(config: Config, output: TextIO) -> Shared:
    """Make what all endpoints use."""
    guards = Guards(config)
    client = UpstreamClient(Upstreams(config.upstreams))
    store = _open_store(config)
    ends = config.endpoints
    first = ends.push or ends.single or ends.pull
    source = Source(first.port if first else 0)
    return Shared(
        guards,
        store,
        PullThrough(store, client, tag_seconds=config.pull_through.tag_seconds),
        AccessLog(output, config.log.format),
        UploadLimit(config.limits.uploads),
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
    all_counters: list[RequestCounters] = []
    if proxying is not None:
        found.append(proxying.inside)
        all_counters += proxying.counters
    for role, endpoint in chosen:
        if endpoint is None:
            continue
        counters = RequestCounters(role.value)
        all_counters.append(counters)
        context = _context(config, shared, role, f"push to port {push} of this registry")
        app = _app(shared, context, counters)
        pushes = role is not Role.PULL
        found.append(Listener(role.value, endpoint.address, endpoint.port, app, tls, pushes=pushes))
    if config.metrics is not None:
        upstream, space = shared.pull_through.counters, shared.store.space
        metrics = MetricsListener(
            Sources(all_counters, shared.transfers, upstream, space, shared.webhooks)
        )
        address, port = config.metrics.address, config.metrics.port
        found.append(Listener("metrics", address, port, metrics, None))
    return found


def _app(shared: Shared, context: Context, counters: RequestCounters) -> App:
    events = Events([*shared.webhooks], context) if shared.webhooks else None
    return App(context, AccessRecord(shared.access_log, counters), events)


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
    reserved, connections = Reserved(LOOPBACK), ProxiedConnections()
    outer, inner = RequestCounters("proxy"), RequestCounters("proxied")
    elsewhere = (
        "docker reaches this registry by the buildset registry's proxy; push to port "
        f"{_push_port(config)} of that, or by a client that does not use the proxy"
    )
    context = _context(config, shared, Role.PULL, elsewhere)
    app = LoopbackApp(_app(shared, context, inner), connections, f"buildset-registry/{__version__}")
    proxy = ConnectProxy(
        Admission(guard.policy, guard.authenticator),
        LoopbackEndpoint(
            {server_of(name): name for name in config.proxied}, reserved.port, connections
        ),
        Dialer(frozenset(settings.ports), os.environ),
        Limits(settings.tunnels, settings.idle_seconds),
        AccessRecord(shared.access_log, outer),
    )
    inside = Listener("proxied", LOOPBACK, reserved.port, app, tls, reserved=True)
    address = settings.address or every_address()
    return Proxying(proxy, address, settings.port, inside, [outer, inner], reserved)


_SERVICE = "buildset-registry"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Guard:
    """What decides about the requests of one endpoint."""

    policy: Policy
    authenticator: Authenticator


class Guards:
    """What the guards of all endpoints share: users, tokens, rules; close it at the end."""

    def __init__(self, config: Config) -> None:
        auth = config.auth
        self._config = config
        self._htpasswd = Htpasswd(auth.htpasswd) if auth.htpasswd else None
        self._tokens: TokenVerifier = _issued(auth.token) if auth.token else _own_tokens(auth)
        self._rights = AccessRules(
            [_rule(rule.users, rule.repositories, rule.actions) for rule in auth.rules]
        )

    def guard(self, role: Role) -> Guard:
        """Return what guards one endpoint."""
        auth = self._config.auth
        private = (upstream.name for upstream in self._config.upstreams if upstream.private)
        policy = Policy(
            endpoint=role,
            anonymous_pull=auth.anonymous_pull,
            private_hosts=frozenset(private),
            allowed_networks=auth.allowed_networks,
            rules=self._rights,
            external=auth.token is not None,
        )
        return Guard(policy, Authenticator(self._htpasswd, self._tokens, policy))

    def close(self) -> None:
        if self._htpasswd is not None:
            self._htpasswd.close()


def receiver(webhook: WebhookSettings) -> Receiver:
    """Return a receiver of notifications."""
    return Receiver(
        name=webhook.name,
        url=webhook.url,
        headers=webhook.headers,
        ca=webhook.ca,
        timeout=webhook.timeout_seconds,
        wait=webhook.retry_seconds,
        room=max(1, webhook.queue),
        ignored_actions=frozenset(webhook.ignore_actions),
        ignored_media_types=frozenset(webhook.ignore_media_types),
    )


def collection_rules(settings: GcSettings) -> CollectionRules:
    """Return what the garbage collector goes by."""
    return CollectionRules(
        grace=settings.grace,
        untagged=settings.untagged,
        uploads=settings.uploads,
        cache_size=settings.cache_size,
    )


def _rule(users: tuple[str, ...], patterns: tuple[str, ...], actions: tuple[str, ...]) -> AccessRule:
    given = ACTIONS if EVERY in actions else frozenset(actions)
    return AccessRule(frozenset(users), patterns, given)


def _issued(server: TokenServerSettings) -> ExternalTokens:
    if urlsplit(server.realm).scheme not in ("https", "http"):
        raise ConfigError(f"auth.token.realm {server.realm!r} is not an https:// URL")
    keys = load_keys(server.rootcertbundle, server.jwks)
    return ExternalTokens(TokenServer(server.realm, server.service, server.issuer, keys))


def _own_tokens(auth: AuthSettings) -> TokenIssuer:
    # A refresh token that ended with the process would lock its client out until its next login.
    refresh_seconds = auth.refresh_seconds if auth.token_key else 0
    return TokenIssuer(Signing(_token_key(auth), _SERVICE, auth.token_seconds, refresh_seconds))


def _token_key(auth: AuthSettings) -> bytes:
    """Return the key that signs tokens; a random one where the configuration names none."""
    if auth.token_key is None:
        return secrets.token_bytes(_KEY_BYTES)
    try:
        key = auth.token_key.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read auth.token_key {auth.token_key}: {error.strerror}; name a file of "
            f"{_KEY_BYTES} random bytes"
        ) from None
    if len(key) < _KEY_BYTES:
        raise ConfigError(
            f"auth.token_key {auth.token_key} is shorter than {_KEY_BYTES} bytes; make a new one"
        )
    return key
