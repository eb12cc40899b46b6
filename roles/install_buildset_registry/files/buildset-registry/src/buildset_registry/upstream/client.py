# SPDX-License-Identifier: Apache-2.0
"""A client of other registries: the requests of the specification, with their answers verified as
far as this can be done before the last byte.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from buildset_registry import __version__
from buildset_registry.errors import (
    BlobHidden,
    BlobUnknown,
    DigestInvalid,
    ManifestHidden,
    ManifestUnknown,
    RegistryError,
)
from buildset_registry.latest import Latest
from buildset_registry.oci.descriptor import (
    DOCKER_SCHEMA1,
    IMAGES,
    INDEXES,
    Descriptor,
)
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.pacing import aside
from buildset_registry.protocol import resume
from buildset_registry.protocol.content_coding import too_large
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.upstream import referrers
from buildset_registry.upstream.counters import UpstreamCounters
from buildset_registry.upstream.hosts import Host, RepositoryRequest, Upstreams
from buildset_registry.upstream.referrers import ReferrersPage
from buildset_registry.upstream.session import Session

if TYPE_CHECKING:
    from buildset_registry.upstream.transport import Timeouts, Transport, UpstreamResponse

_ACCEPT = {"Accept": ", ".join((*sorted(INDEXES | IMAGES), "*/*"))}
#: Pages of a list of referrers that are read.
_MOST_PAGES = 50
#: Seconds for which it is known that a mirror began to send a blob, and how many are known.
_MIRRORED_SECONDS = 600.0
_MIRRORED = 4096

_log = logging.getLogger("buildset_registry.upstream")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest as upstream sent it; the digest is that of the bytes."""

    raw: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        """Return what describes it."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A transfer that began: the blob's whole size where upstream tells it, and what follows."""

    size: int | None
    chunks: AsyncIterator[bytes]
    registry: str = ""
    """The registry that sends it; by default the one that the repository belongs to."""


class UpstreamClient:
    """Asks the configured registries, and nobody else."""

    def __init__(
        self,
        upstreams: Upstreams,
        *,
        user_agent: str = f"buildset-registry/{__version__}",
        timeouts: Timeouts | None = None,
        environment: Mapping[str, str] | None = None,
        counters: UpstreamCounters | None = None,
    ) -> None:
        self.counters = counters or UpstreamCounters()
        self._upstreams = upstreams
        proxies = os.environ if environment is None else environment
        self._settings = (user_agent, proxies, timeouts)
        self._mirrored: Latest[tuple[RepositoryName, Digest], float] = Latest(_MIRRORED)
        self._opening = asyncio.Lock()
        self._session: Session | None = None

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        return self._upstreams.find(name) is not None

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        """Return a manifest's descriptor as it is now, without fetching it where upstream tells."""
        request = _manifest(reference, "HEAD")

        async def read(response: UpstreamResponse) -> Descriptor | None:
            if response.method != "HEAD":
                return (await _received(response, reference)).descriptor
            response.close()
            digest = _stated_digest(response.headers)
            size = resume.length(response.headers)
            if digest is None or size is None:
                return None
            if isinstance(reference, Digest) and digest != reference:
                raise UpstreamError(f"sends {digest} when {reference} was asked for")
            return Descriptor(_media_type(response.headers), digest, size)

        _host, descriptor = await self._first(name, request, read)
        if descriptor is not None:
            return descriptor
        return (await self.manifest(name, reference)).descriptor

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        """Fetch a manifest of at most 4 MiB and verify its digest."""
        request = _manifest(reference)

        async def read(response: UpstreamResponse) -> RemoteManifest:
            return await _received(response, reference)

        _host, manifest = await self._first(name, request, read)
        return manifest

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        """Return the manifests that name one as their subject; None where a registry lists none."""

        async def read(
            response: UpstreamResponse,
        ) -> tuple[ReferrersPage | None, RepositoryRequest | None]:
            raw = await response.read(MAX_MANIFEST)
            page = await aside(
                len(raw), partial(ReferrersPage.read, raw, response.headers, subject)
            )
            return page, None if page is None else referrers.next_page(response.url, page)

        found: list[Descriptor] = []
        length = 0
        try:
            host, (page, following) = await self._first(name, referrers.first_page(subject), read)
            for asked in range(1, _MOST_PAGES + 1):
                if page is None:
                    return None
                found += page.items
                length += page.length
                if length > MAX_MANIFEST:
                    raise host.failed(too_large(MAX_MANIFEST))
                if following is None or asked == _MOST_PAGES:
                    break
                page, following = await (await self._open()).ask(host, following, read)
        except ManifestUnknown:
            return None
        return found

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return a blob's size in bytes without fetching it."""
        request = RepositoryRequest(f"blobs/{digest}", BlobUnknown, BlobHidden, method="HEAD")

        async def read(response: UpstreamResponse) -> int:
            response.close()
            size = resume.length(response.headers)
            if size is None:
                raise UpstreamError(f"does not say how large {digest} is")
            return size

        _host, size = await self._first(name, request, read)
        return size

    @asynccontextmanager
    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        offset: int = 0,
        taken: Callable[[int], None] = lambda _length: None,
    ) -> AsyncIterator[RemoteBlob]:
        """Open a blob from ``offset`` on; the caller verifies its digest.

        ``taken`` is told the length of each chunk when the caller is done with it.
        A transfer that breaks raises ``UpstreamFailed``; it is resumed by opening the blob again.
        Who opens one again that a mirror sent got something else from it than the blob: then the
        upstream itself is asked first, and the mirror where that fails.
        """
        request = RepositoryRequest(
            f"blobs/{digest}", BlobUnknown, BlobHidden, resume.requested(offset)
        )

        async def read(
            response: UpstreamResponse,
        ) -> tuple[UpstreamResponse, resume.PartialContent]:
            return response, resume.received(response.status, response.headers, offset)

        again = time.monotonic() < self._mirrored.pop((name, digest), 0.0)
        host, (response, part) = await self._first(name, request, read, itself_first=again)
        if host.is_mirror:
            self._mirrored[name, digest] = time.monotonic() + _MIRRORED_SECONDS
        try:
            async with aclosing(_content(host, response, part, taken)) as chunks:
                yield RemoteBlob(part.size, chunks, host.upstream.name)
        finally:
            response.close()

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def _first(
        self,
        name: RepositoryName,
        request: RepositoryRequest,
        read: Callable[[UpstreamResponse], Awaitable[_Result]],
        *,
        itself_first: bool = False,
    ) -> tuple[Host, _Result]:
        """Ask a mirror, then the upstream itself; return the host that answered, and its answer.

        Where all fail, it is the upstream's own refusal that counts.
        """
        hosts = self._upstreams.hosts(name)
        if not hosts:
            raise request.missing(f"no upstream is configured for {name.host}")
        session = await self._open()
        refusals: list[RegistryError] = []
        for host in reversed(hosts) if itself_first else hosts:
            try:
                return host, await session.ask(host, request, read)
            except RegistryError as error:
                if not host.is_mirror:
                    refusals.append(error)
                if len(hosts) > 1:
                    _log.info("%s", error.message)
        raise refusals.pop()

    async def _open(self) -> Session:
        if self._session is not None:
            return self._session
        async with self._opening:
            if self._session is None:
                transport = await asyncio.to_thread(_transport)
                self._session = Session(transport(*self._settings), self.counters)
            return self._session


def _transport() -> type[Transport]:
    """Import what takes 0.2 s; in a thread, so that other requests go on meanwhile."""
    from buildset_registry.upstream.transport import Transport

    return Transport


def _manifest(reference: Reference, method: str = "GET") -> RepositoryRequest:
    return RepositoryRequest(
        f"manifests/{reference}", ManifestUnknown, ManifestHidden, _ACCEPT, method
    )


async def _received(response: UpstreamResponse, reference: Reference) -> RemoteManifest:
    """Read a manifest and verify its digest."""
    media_type = _media_type(response.headers)
    if media_type == "text/html":
        raise UpstreamError("answers with a web page instead of a manifest; check its url")
    if media_type in DOCKER_SCHEMA1:
        raise UpstreamError(
            "has this image in Docker's schema 1, which is not supported; "
            "push it there again with docker 1.10 or newer"
        )
    raw = await response.read(MAX_MANIFEST)
    told = isinstance(reference, Digest) or _stated_digest(response.headers) is not None
    if not told and not raw.lstrip().startswith(b"{"):
        # Whatever it is, the tag would mean that from now on: no digest says otherwise.
        raise UpstreamError("answers with something else than a manifest; check its url")
    return RemoteManifest(raw, media_type, _verified(raw, reference, response.headers))


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _stated_digest(headers: Mapping[str, str]) -> Digest | None:
    """Return the digest that upstream tells, if it is of an algorithm we know."""
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None


def _verified(raw: bytes, reference: Reference, headers: Mapping[str, str]) -> Digest:
    """Return the digest of a manifest, by the algorithm that it was asked for or is told by."""
    requested = reference if isinstance(reference, Digest) else None
    stated = _stated_digest(headers)
    for expected in filter(None, (requested, stated)):
        found = Digest.of(raw, expected.algorithm)
        if found != expected:
            raise UpstreamError(f"sends a manifest whose digest is {found}, not {expected}")
    return requested or stated or Digest.of(raw)


async def _content(
    host: Host,
    response: UpstreamResponse,
    part: resume.PartialContent,
    taken: Callable[[int], None],
) -> AsyncGenerator[bytes]:
    """Yield a blob's bytes from where it was opened."""
    if part.empty:
        return
    skip = part.skip
    try:
        while piece := await response.piece():
            if skip < len(piece):
                yield piece[skip:] if skip else piece
                taken(len(piece) - skip)
            skip = max(skip - len(piece), 0)
    except UpstreamError as error:
        raise host.failed(error) from None
