# SPDX-License-Identifier: Apache-2.0
"""The settings: one dataclass for each section of the file, with the defaults inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from buildset_registry.config.acme import AcmeSettings
from buildset_registry.config.endpoints import Endpoints, MetricsSettings, ProxySettings, Tls
from buildset_registry.config.retention import RetentionSettings
from buildset_registry.config.storage import RedirectSettings, StorageSettings
from buildset_registry.oci.hosts import DOCKER_HUB, RegistryHost
from buildset_registry.oci.patterns import RepositoryPattern

Network = IPv4Network | IPv6Network

#: Registries that are pulled through where the configuration names none.
DEFAULT_UPSTREAMS = {
    "docker.io": "https://registry-1.docker.io",
    "quay.io": "https://quay.io",
    "gcr.io": "https://gcr.io",
    "ghcr.io": "https://ghcr.io",
    "registry.k8s.io": "https://registry.k8s.io",
    "public.ecr.aws": "https://public.ecr.aws",
    "mcr.microsoft.com": "https://mcr.microsoft.com",
    "registry.access.redhat.com": "https://registry.access.redhat.com",
    "registry.fedoraproject.org": "https://registry.fedoraproject.org",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """A registry to pull through."""

    name: RegistryHost
    """How images name it: ``docker.io``, ``quay.io``, ``registry.example.com:5000``."""

    url: str
    """Where its API is: ``https://...``, or ``http://...`` said explicitly."""

    ca: Path | None = None
    """PEM file to verify it with, instead of the system's certificates."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    """Credentials that the registry itself uses there; a client's are never sent upstream."""

    public: bool = False
    """Whether everybody who may pull here may see what the credentials can see."""

    mirror: str | None = None
    """URL of a mirror, asked before ``url``."""

    @property
    def private(self) -> bool:
        """Whether pulling through needs a login: its credentials may see more than the public."""
        return self.username is not None and not self.public


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings:
    """A rule: some users may do something in some repositories."""

    repositories: tuple[RepositoryPattern, ...]
    """Patterns of names: ``*`` is any part of one component, ``**`` any number of components."""

    actions: tuple[Literal["pull", "push", "delete", "*"], ...]
    """``pull``, ``push``, ``delete``; ``*`` is all of them."""

    users: tuple[str, ...] = ("*",)
    """Names in the htpasswd file; ``*`` is every user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServerSettings:
    """An external server that issues the bearer tokens, as in distribution's ``auth: token``."""

    realm: str
    """URL at which clients get tokens."""

    service: str
    """What the server calls this registry: the audience of its tokens."""

    issuer: str
    """What its tokens name as their issuer."""

    rootcertbundle: Path | None = None
    """PEM file: the certificates whose keys sign tokens, or one public key."""

    jwks: Path | None = None
    """File of a JSON Web Key Set: the keys that sign tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Users, tokens and rules."""

    htpasswd: Path | None = None
    """Users and bcrypt hashes; without it nobody may write."""

    token_key: Path | None = None
    """File of at least 32 random bytes that signs this registry's bearer tokens; made at start-up
    in memory where none is named (then tokens end with the process)."""

    token_seconds: int = 300
    """How long a bearer token is valid."""

    refresh_seconds: int = 30 * 24 * 3600
    """How long a refresh token is valid, which clients keep instead of the password; none are
    issued without ``token_key``, since they would end with the process, nor where this is 0."""

    anonymous_pull: bool = True
    """Whether pulling needs no login."""

    allowed_networks: tuple[Network, ...] = ()
    """Clients from elsewhere are refused; empty allows every network."""

    rules: tuple[RuleSettings, ...] = ()
    """What each user may do where; without rules every user may do everything."""

    token: TokenServerSettings | None = None
    """Another server that issues the tokens, instead of this registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullThroughSettings:
    """The freshness of content of upstreams."""

    tag_seconds: int | None = None
    """For how long a tag stays what upstream said it is; by default for ever, so that a whole
    buildset sees one image. Afterwards upstream is asked whether it has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSettings:
    """A lock of images, by which tags of upstreams are served."""

    file: Path
    """The lock, as ``buildset-registry lock`` writes it: its tags have the digests that it says,
    whatever upstreams say."""

    mode: Literal["prefer", "strict"] = "prefer"
    """Whether upstreams are asked about tags that it does not list; ``strict`` refuses them. What
    jobs push is no lock's affair."""

    images: Path | None = None
    """A folder in the OCI image layout with the images of the lock, asked before upstreams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcSettings:
    """Garbage collection; all but ``cache_size`` in seconds."""

    interval: int = 3600
    """How often garbage is collected while the registry serves; 0 leaves it to the command."""

    grace: int = 24 * 3600
    """How long a blob stays that nothing refers to, since it was pushed or a client that pushes
    was told that it is here; at least 60."""

    untagged: int | None = None
    """How long a pushed manifest stays that has no tag, and that no index lists and no subject
    holds; by default for ever, otherwise as long as ``grace`` at least."""

    uploads: int = 7 * 24 * 3600
    """How long an upload may rest before it is forgotten."""

    cache_size: int | None = None
    """Bytes that content of upstreams may take; by default as many as there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The access log and the messages."""

    file: Path | None = None
    """Where it goes; by default standard error."""

    format: Literal["text", "json"] = "text"
    """A line of text each, or a line of JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """The ledger: which image each client got, and from where."""

    folder: Path | None = None
    """The folder of its files, which is made where there is none; an object store needs none."""

    size: int = 128 * 1024 * 1024
    """Bytes of all its files, or objects; past it the oldest one goes, a file an eighth of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaySettings:
    """The overlay: images of other builds, fetched from the registry that holds them."""

    folder: Path
    """The folder of what ``buildset-registry overlay`` is handed; it need not be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """A receiver of notifications, in distribution's envelope."""

    name: str
    """What the log and the metrics call it."""

    url: str
    """Where events are posted to."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Further headers, such as ``Authorization``."""

    ca: Path | None = None
    """PEM file to verify it with, instead of the system's certificates."""

    timeout_seconds: int = 5
    """For how long it may take to answer."""

    retry_seconds: int = 1
    """Seconds before the first new attempt; each further one doubles it, up to a minute."""

    queue: int = 10_000
    """Events that may wait in memory; then the oldest is lost."""

    ignore_actions: tuple[Literal["push", "pull", "mount", "delete"], ...] = ()
    """Actions that it is not told of."""

    ignore_media_types: tuple[str, ...] = ()
    """Media types that it is not told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits of what clients may use; 0 is no limit."""

    uploads: int = 256
    """Requests that may send a blob at once; another one gets 429."""

    fetches: int = 128
    """Blobs that are fetched from upstreams at once, fewer where the process may not open as many
    files; another one waits for a place, and gets 429 where that takes long."""

    body_seconds: int = 60
    """For how long a client may send nothing of a body before it gets 408."""

    answer_seconds: int = 30
    """For how long a client may take nothing of an answer before its connection ends."""

    connections: int = 2048
    """Connections of an endpoint at once, fewer where the process may not open as many files; at
    least 1. Another one waits until one ends."""

    client_connections: int = 512
    """Connections of one address; past it, requests get 429 and the idlest connections end."""

    free_bytes: int | None = None
    """Bytes of the disk that stay free, 507 before; by default 256 MiB, or a twentieth of a disk
    that is smaller than 5 GiB."""

    shutdown_seconds: int = 30
    """For how long running requests may go on after SIGTERM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    endpoints: Endpoints
    storage: Path | StorageSettings | Literal["memory"]
    """The data directory; ``docker/registry/v2`` is below it, as distribution lays it out. The word
    ``memory`` keeps everything in memory until the process ends: for tests and throw-away. A
    section with the name of a service (``s3``) keeps everything there."""

    durable: bool = True
    """Whether what is acknowledged is on disk. False leaves it to the kernel to write it when it
    likes: faster, and a power cut may break images of the last minutes. A crash does not."""

    sparse_images: bool = False
    """Whether an image may be pushed before its layers, or without some: the specification leaves
    that to the registry. Refusing shows a broken push when it happens, not when it is pulled."""

    absolute_urls: bool = False
    """Whether ``Location`` is a whole URL, for clients that cannot follow a path."""

    workers: int = 1
    """Processes that serve the same ports; more than one need a store that is a service. Limits
    hold for each of them."""

    tls: Tls | None = None
    """Without it the registry speaks plain HTTP: behind a proxy that ends TLS."""

    acme: AcmeSettings | None = None
    """An authority that issues the certificate, instead of ``tls``."""

    auth: AuthSettings = field(default_factory=AuthSettings)
    upstreams: tuple[UpstreamSettings, ...] = ()
    pull_through: PullThroughSettings = field(default_factory=PullThroughSettings)
    lock: LockSettings | None = None
    gc: GcSettings = field(default_factory=GcSettings)
    retention: RetentionSettings | None = None
    log: LogSettings = field(default_factory=LogSettings)
    ledger: LedgerSettings | None = None
    overlay: OverlaySettings | None = None
    metrics: MetricsSettings | None = None
    proxy: ProxySettings | None = None
    notifications: tuple[WebhookSettings, ...] = ()
    limits: LimitSettings = field(default_factory=LimitSettings)
    read_only: bool = False
    """Whether pushes and deletes are refused; what is pulled through is stored all the same."""

    @property
    def redirect(self) -> RedirectSettings:
        """How clients get at blobs; a folder and memory send nobody elsewhere."""
        if isinstance(self.storage, StorageSettings):
            return self.storage.redirect
        return RedirectSettings()

    @property
    def proxied(self) -> tuple[RegistryHost, ...]:
        """The registries that the proxy answers for itself."""
        if self.proxy is None:
            return ()
        if self.proxy.registries is not None:
            return self.proxy.registries
        names = (upstream.name for upstream in self.upstreams)
        return tuple(name for name in names if name != DOCKER_HUB)
