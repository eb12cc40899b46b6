# SPDX-License-Identifier: Apache-2.0
"""The client of other registries, as pull-through needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.upstream.client import RemoteBlob, RemoteManifest
from buildset_registry.upstream.counters import UpstreamCounters


class RemoteManifests(Protocol):
    """Manifests at other registries."""

    @property
    def counters(self) -> UpstreamCounters:
        """Return what counts the requests."""

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        """Return a manifest's descriptor as it is now."""

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        """Fetch a manifest and verify its digest."""

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        """Return the manifests that name one as their subject; None where a registry lists none."""


class RemoteBlobs(Protocol):
    """Blobs at other registries."""

    @property
    def counters(self) -> UpstreamCounters:
        """Return what counts the requests."""

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return a blob's size in bytes without fetching it."""

    def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        offset: int = 0,
        taken: Callable[[int], None] = ...,
    ) -> AbstractAsyncContextManager[RemoteBlob]:
        """Open a blob from ``offset`` on; ``taken`` is told the length of each chunk."""


class RemoteRegistries(RemoteManifests, RemoteBlobs, Protocol):
    """Other registries, as long as they are needed."""

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether somebody may be asked about a repository."""

    async def close(self) -> None:
        """End all connections."""
