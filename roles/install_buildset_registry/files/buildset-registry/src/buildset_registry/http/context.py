# SPDX-License-Identifier: Apache-2.0
"""The context of an endpoint's handlers: its view of the store, its rights, its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import NamedTuple

from buildset_registry.auth.access import Identity, Intent, Policy, is_within
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.auth.rights import Rights
from buildset_registry.errors import TooManyRequests
from buildset_registry.http.bodies import BodyBudget
from buildset_registry.http.senders import Sender
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough.blobs import ArrivingDownload
from buildset_registry.registry import Registry
from buildset_registry.retention import Leases, QuotaGuard
from buildset_registry.store.base import StorageSpace, Upload


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of single requests."""

    read_only: bool = False
    """True where nothing may be pushed or deleted for now."""

    body_seconds: float = 0
    """For how long a client may send nothing of a body; 0 is for ever."""


@dataclass(frozen=True, slots=True)
class StreamedClients:
    """Clients that cannot, or must not, be sent elsewhere for blobs: they get the bytes here."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    agents: tuple[str, ...] = ()
    """Beginnings of what they call themselves."""

    def has(self, client: str, agent: str) -> bool:
        """Tell whether a client is one of them."""
        named = bool(self.agents) and agent.startswith(self.agents)
        return named or (bool(self.networks) and is_within(client, self.networks))


class SendingUpload(NamedTuple):
    """An upload that a request sends to."""

    name: RepositoryName
    upload: Upload


class UploadLimit:
    """The requests that send a blob, and how many may at once; shared by all endpoints."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The rest is for others: who sends a byte now and then would have all of them for long.
        self._each = max(1, limit * 3 // 4)
        self._sending: dict[object, SendingUpload] = {}
        self._own: dict[Sender, int] = {}

    @property
    def running(self) -> int:
        """Return how many there are."""
        return len(self._sending)

    @property
    def sending(self) -> list[SendingUpload]:
        """Return to what they send; no store is asked."""
        return [*self._sending.values()]

    @contextmanager
    def one(self, name: RepositoryName, upload: Upload, sender: Sender) -> Iterator[None]:
        """Note one while it sends; ``TooManyRequests`` where enough do. A limit of 0 is none."""
        own = self._own.get(sender, 0)
        if self._limit and self.running >= self._limit:
            raise _too_many(self.running)
        if self._limit and own >= self._each:
            raise _too_many(own, f" to one client, {sender}")
        request = object()
        self._sending[request] = SendingUpload(name, upload)
        self._own[sender] = own + 1
        try:
            yield
        finally:
            del self._sending[request]
            self._own[sender] -= 1
            if not self._own[sender]:
                del self._own[sender]


def _too_many(running: int, whose: str = "") -> TooManyRequests:
    return TooManyRequests(
        f"{running} uploads are running, as many as limits.uploads allows{whose}; try again soon",
        headers={"Retry-After": "1"},
    )


@dataclass(slots=True)
class Crowd:
    """Clients that hold too many connections, or have left too many requests behind."""

    clients: frozenset[str] = frozenset()
    """Those that held too many when connections were last looked at."""

    most: int = 0
    """How many requests of one client may be under way; 0 is any number."""

    most_of_all: int = 0
    """How many of all clients may be, in which case it is full; 0 is any number."""

    running: dict[str, int] = field(default_factory=dict)
    """How many are, by clients. One goes on whose client has left: it may wait for an upstream, and
    hold a connection to that."""

    of_networks: dict[str, int] = field(default_factory=dict)
    """How many are, by the networks of clients: of IPv6 one host may come from any address."""

    of_all: int = 0
    """How many are of all clients."""

    def begin(self, client: str, network: str) -> None:
        """Count a request that begins."""
        self.of_all += 1
        for counts, key in ((self.running, client), (self.of_networks, network)):
            counts[key] = counts.get(key, 0) + 1

    def end(self, client: str, network: str) -> None:
        """Count one no more, and know nothing of who has none."""
        self.of_all -= 1
        for counts, key in ((self.running, client), (self.of_networks, network)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]

    def check(self, client: str, network: str) -> None:
        """Raise ``TooManyRequests`` for one of them, and in a full one for who has most."""
        running, full = self.running.get(client, 0), 0 < self.most_of_all < self.of_all
        if client in self.clients:
            told = f"{client} holds too many connections (limits.client_connections)"
        elif 0 < self.most < running:
            told = f"{running - 1} requests of {client} are under way (limits.client_connections)"
        elif full and self.of_networks.get(network, 0) * len(self.of_networks) >= self.of_all:
            told = f"{self.of_all - 1} requests are under way (limits.connections)"
        else:
            return
        raise TooManyRequests(
            f"{told}; try again soon", headers={"Retry-After": "2", "Connection": "close"}
        )


@dataclass(frozen=True, slots=True)
class Context:
    """One endpoint, for its handlers."""

    registry: Registry
    policy: Policy
    authenticator: Authenticator
    elsewhere: str
    """The place where writing is possible, for the message of a read-only endpoint."""

    storage: StorageSpace
    uploads: UploadLimit
    limits: RequestLimits = RequestLimits()
    absolute_urls: bool = False
    """True where ``Location`` and ``Link`` are to be whole URLs."""

    crowd: Crowd = field(default_factory=Crowd)
    arriving: Callable[[], list[ArrivingDownload]] = list
    """Returns the blobs that are on their way from upstreams."""

    streamed: StreamedClients = StreamedClients()
    """The clients that are sent nowhere else for blobs."""

    quotas: QuotaGuard | None = None
    """Has uploads refused where there is no room left for them; None: there are no quotas."""

    leases: Leases | None = None
    """Keeps the images that tokens are handed out for; None: nothing does."""

    overlay: Path | None = None
    """The folder of the overlay, which clients may add to; None: there is none."""

    bodies: BodyBudget = field(default_factory=BodyBudget)
    """The memory of bodies that are gathered whole; all endpoints have one."""

    one_page: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Has the pages of images made one after the other: each takes a thread, of which all other
    requests need some."""

    def intent(self, identity: Identity, name: RepositoryName) -> Intent:
        """Return what a client that asks what is here has in mind; nobody can push for now where
        the registry is read-only."""
        return Intent.PULL if self.limits.read_only else self.policy.intent(identity, name)

    def rights(self, identity: Identity) -> Rights:
        """Return what a client may read at this endpoint."""
        return Rights(self.policy, identity)
