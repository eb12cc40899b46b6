# SPDX-License-Identifier: Apache-2.0
"""Fetch manifests and blobs from upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from buildset_registry import __version__
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.upstream.rules import Rules


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds; a transfer that goes on may take any time."""

    connect: float = 10.0
    """For a connection, TLS included."""

    read: float = 60.0
    """For the next bytes."""


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
        rules: Rules,
        *,
        user_agent: str = f"buildset-registry/{__version__}",
        timeouts: Timeouts | None = None,
    ) -> None: ...

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether an upstream is configured for the repository."""
        raise NotImplementedError

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor | None:
        """Return what a manifest is now, without fetching it; ``None`` where upstream has none."""
        raise NotImplementedError

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        """Fetch a manifest of at most 4 MiB and verify its digest."""
        raise NotImplementedError

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return a blob's size in bytes without fetching it."""
        raise NotImplementedError

    @asynccontextmanager
    async def blob(
        self, name: RepositoryName, digest: Digest, offset: int = 0
    ) -> AsyncIterator[RemoteBlob]:
        """Open a blob from ``offset`` on; the caller verifies its digest, and resumes."""
        raise NotImplementedError
        yield

    async def close(self) -> None:
        """End all connections."""
