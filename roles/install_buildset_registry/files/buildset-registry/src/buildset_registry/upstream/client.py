# SPDX-License-Identifier: Apache-2.0
"""Fetch manifests and blobs from upstream: the questions of the specification, with their answers
verified as far as this can be done before the last byte.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from buildset_registry import __version__
from buildset_registry.errors import (
    BlobUnknown,
    DigestInvalid,
    Failure,
    ManifestHidden,
    ManifestUnknown,
    RegistryError,
)
from buildset_registry.oci.descriptor import (
    DOCKER_SCHEMA1,
    IMAGES,
    INDEXES,
    Descriptor,
)
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.upstream import referrers
from buildset_registry.upstream import resume as ranges
from buildset_registry.upstream.counters import UpstreamCounters
from buildset_registry.upstream.hosts import Host, Question, UpstreamRules, hosts_of
from buildset_registry.upstream.referrers import ReferrersPage
from buildset_registry.upstream.session import Session
from buildset_registry.upstream.transport import Timeouts

if TYPE_CHECKING:
    from buildset_registry.upstream.transport import Transport, UpstreamResponse

_ACCEPT = {"Accept": ", ".join((*sorted(INDEXES | IMAGES), "*/*"))}
#: Pages of a list of referrers that are read.
_MOST_PAGES = 50

_log = logging.getLogger("buildset_registry.upstream")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest as upstream sent it; the digest is that of the bytes."""

    raw: bytes
    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A transfer that began: the blob's whole size where upstream tells it, and what follows."""

    size: int | None
    chunks: AsyncIterator[bytes]


class UpstreamClient:
    """Ask the configured registries, and nobody else."""

    def __init__(
        self,
        rules: UpstreamRules,
        *,
        user_agent: str = f"buildset-registry/{__version__}",
        timeouts: Timeouts | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.counters = UpstreamCounters()
        self._rules = rules
        surroundings = os.environ if environment is None else environment
        self._settings = (user_agent, timeouts or Timeouts(), surroundings)
        self._opening = asyncio.Lock()
        self._exchange: Session | None = None

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        return self._rules.find(name) is not None

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        """Return what a manifest is now, without fetching it where upstream tells."""
        wanted = _manifest(reference, "HEAD")

        async def use(response: UpstreamResponse) -> Descriptor | None:
            response.close()
            digest = _stated_digest(response.headers)
            size = ranges.length(response.headers)
            if digest is None or size is None:
                return None
            if isinstance(reference, Digest) and digest != reference:
                raise Failure(f"has {digest} where {reference} was asked for")
            return Descriptor(_media_type(response.headers), digest, size)

        _site, told = await self._first(name, wanted, use)
        if told is not None:
            return told
        fetched = await self.manifest(name, reference)
        return Descriptor(fetched.media_type, fetched.digest, len(fetched.raw))

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        """Fetch a manifest of at most 4 MiB and verify its digest."""
        wanted = _manifest(reference)

        async def use(response: UpstreamResponse) -> RemoteManifest:
            media_type = _media_type(response.headers)
            if media_type == "text/html":
                raise Failure("answers with a web page instead of a manifest; check its url")
            if media_type in DOCKER_SCHEMA1:
                raise Failure(
                    "has this image in Docker's schema 1, which is not supported; "
                    "it has to be pushed there again with docker 1.10 or newer"
                )
            raw = await response.read(MAX_MANIFEST)
            return RemoteManifest(raw, media_type, _verified(raw, reference, response.headers))

        _site, manifest = await self._first(name, wanted, use)
        return manifest

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        """Return what names a manifest as its subject; None at a registry that lists no such."""

        async def use(response: UpstreamResponse) -> ReferrersPage | None:
            return ReferrersPage.read(await response.read(MAX_MANIFEST), response.headers)

        asked = referrers.first(subject)
        found: list[Descriptor] = []
        try:
            site, page = await self._first(name, asked, use)
            pages = 1
            while page is not None:
                found += page.items
                following = referrers.following(site.url, asked, page)
                if following is None or pages == _MOST_PAGES:
                    return found
                asked, pages = following, pages + 1
                page = await (await self._open()).ask(site, asked, use)
        except ManifestUnknown:
            pass
        return None

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return a blob's size in bytes without fetching it."""
        wanted = Question(f"blobs/{digest}", BlobUnknown, BlobUnknown, method="HEAD")

        async def use(response: UpstreamResponse) -> int:
            response.close()
            size = ranges.length(response.headers)
            if size is None:
                raise Failure(f"does not tell the size of {digest}")
            return size

        _site, size = await self._first(name, wanted, use)
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
        """
        wanted = Question(f"blobs/{digest}", BlobUnknown, BlobUnknown, ranges.requested(offset))

        async def use(response: UpstreamResponse) -> tuple[UpstreamResponse, ranges.Part]:
            return response, ranges.received(response.status, response.headers, offset)

        site, (response, part) = await self._first(name, wanted, use)
        try:
            async with aclosing(_content(site, response, part, taken)) as chunks:
                yield RemoteBlob(part.size, chunks)
        finally:
            response.close()

    async def close(self) -> None:
        """End all connections."""
        if self._exchange is not None:
            await self._exchange.close()

    async def _first(
        self,
        name: RepositoryName,
        wanted: Question,
        use: Callable[[UpstreamResponse], Awaitable[_Result]],
    ) -> tuple[Host, _Result]:
        """Ask a mirror, then the upstream itself; return who answered, and what."""
        *mirrors, home = hosts_of(self._rules, name) or (None,)
        if home is None:
            raise wanted.missing(f"no upstream is configured for {name.host}")
        exchange = await self._open()
        for site in filter(None, mirrors):
            try:
                return site, await exchange.ask(site, wanted, use)
            except RegistryError as error:
                _log.info("%s; asking %s itself", error.message, site.upstream.name)
        return home, await exchange.ask(home, wanted, use)

    async def _open(self) -> Session:
        if self._exchange is not None:
            return self._exchange
        async with self._opening:
            if self._exchange is None:
                transport = await asyncio.to_thread(_transport)
                self._exchange = Session(transport(*self._settings), self.counters)
            return self._exchange


def _transport() -> type[Transport]:
    """Import what takes 0.2 s; in a thread, so that other requests go on meanwhile."""
    from buildset_registry.upstream.transport import Transport

    return Transport


def _manifest(reference: Reference, method: str = "GET") -> Question:
    return Question(f"manifests/{reference}", ManifestUnknown, ManifestHidden, _ACCEPT, method)


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
    asked = reference if isinstance(reference, Digest) else None
    stated = _stated_digest(headers)
    for expected in filter(None, (asked, stated)):
        found = Digest.of(raw, expected.algorithm)
        if found != expected:
            raise Failure(f"sends a manifest whose digest is {found}, not {expected}")
    return asked or stated or Digest.of(raw)


async def _content(
    site: Host, response: UpstreamResponse, part: ranges.Part, taken: Callable[[int], None]
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
    except Failure as failure:
        raise site.failed(failure) from None
