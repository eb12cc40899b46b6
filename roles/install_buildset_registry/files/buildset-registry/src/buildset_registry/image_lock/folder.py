# SPDX-License-Identifier: Apache-2.0
"""The images of a lock in a folder in the OCI image layout, asked before upstreams.

What a client pulls comes into the store from there as it would from upstream: verified, once, and
only for the repositories whose images the lock lists (decision 0047).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from buildset_registry.errors import ConfigError
from buildset_registry.image_lock.document import ImageLock
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest, stored_media_type
from buildset_registry.oci.names import Reference, RepositoryName
from buildset_registry.store.base import BlobFile
from buildset_registry.upstream.client import RemoteBlob, RemoteManifest, UpstreamClient
from buildset_registry.upstream.hosts import Upstreams

#: Indexes in indexes, which nobody makes deeper.
_DEEPEST = 16


class ImageFolder:
    """The folder, and which of its content belongs to which repository of a lock."""

    def __init__(self, path: Path, lock: ImageLock) -> None:
        """Look at all manifests; ``ConfigError`` for a folder that is no image layout."""
        self.path = path
        self._manifests: dict[RepositoryName, dict[Digest, Manifest]] = defaultdict(dict)
        self._blobs: dict[RepositoryName, dict[Digest, int]] = defaultdict(dict)
        self._lacking: set[tuple[RepositoryName, Digest]] = set()
        listed = _listed(path)
        self.missing = [
            name
            for name, image in sorted(lock.images.items(), key=str)
            if not self._take(name.name, image.digest, image.media_type)
        ]
        self._take_referrers(listed)

    def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest | None:
        """Return a manifest that the folder has of a repository."""
        if not isinstance(reference, Digest):
            return None
        found = self._manifests.get(name, {}).get(reference)
        return None if found is None else RemoteManifest(found.raw, found.media_type, reference)

    def blob(self, name: RepositoryName, digest: Digest) -> BlobFile | None:
        """Return a blob that the folder has of a repository."""
        size = self._blobs.get(name, {}).get(digest)
        return None if size is None else BlobFile(_file(self.path, digest), size)

    def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        """Return what refers to a manifest that the folder has; None where it has it not."""
        manifests = self._manifests.get(name, {})
        if subject not in manifests:
            return None
        return [one.listed for one in manifests.values() if _subject(one) == subject]

    def _take(
        self, name: RepositoryName, digest: Digest, media_type: str | None, depth: int = 0
    ) -> bool:
        """Note an image with all that belongs to it; False where some of it is not there.

        Of an index, some platforms may have been left out.
        """
        if digest in self._manifests[name]:
            return True
        if (name, digest) in self._lacking or depth > _DEEPEST:
            return False
        manifest = _read(self.path, digest, media_type)
        sizes = self._sizes(name, manifest, depth) if manifest is not None else None
        if manifest is None or sizes is None:
            self._lacking.add((name, digest))
            return False
        self._manifests[name][digest] = manifest
        self._blobs[name].update(sizes)
        return True

    def _sizes(
        self, name: RepositoryName, manifest: Manifest, depth: int
    ) -> dict[Digest, int] | None:
        """Return the sizes of a manifest's blobs; None where it lacks one, or all its children."""
        children = [
            self._take(name, one.digest, one.media_type, depth + 1) for one in manifest.manifests
        ]
        blobs = {one.digest: one.size for one in manifest.blobs}
        whole = all(_size(self.path, digest) == size for digest, size in blobs.items())
        return blobs if whole and (not children or any(children)) else None

    def _take_referrers(self, listed: list[Descriptor]) -> None:
        """Note what refers to images that are noted; what refers to that is in the list as well."""
        read = (_read(self.path, one.digest, one.media_type) for one in listed)
        waiting = [one for one in read if one is not None and one.subject is not None]
        taken = True
        while taken:
            taken = False
            for name in list(self._manifests):
                for one in waiting:
                    if one.digest not in self._manifests[name] and (
                        _subject(one) in self._manifests[name]
                    ):
                        taken |= self._take(name, one.digest, one.media_type)


class FolderClient(UpstreamClient):
    """A client that looks into the folder, and asks upstreams for what is not there."""

    def __init__(self, upstreams: Upstreams, folder: ImageFolder) -> None:
        super().__init__(upstreams)
        self.folder = folder

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        found = self.folder.manifest(name, reference)
        return found.descriptor if found else await super().head(name, reference)

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        return self.folder.manifest(name, reference) or await super().manifest(name, reference)

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        found = self.folder.referrers(name, subject)
        return await super().referrers(name, subject) if found is None else found

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        found = self.folder.blob(name, digest)
        return found.size if found else await super().blob_size(name, digest)

    @asynccontextmanager
    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        offset: int = 0,
        taken: Callable[[int], None] = lambda _length: None,
    ) -> AsyncIterator[RemoteBlob]:
        found = self.folder.blob(name, digest)
        if found is None:
            async with super().blob(name, digest, offset, taken) as remote:
                yield remote
            return
        async with aclosing(found.chunks(offset, found.size)) as chunks:
            yield RemoteBlob(found.size, _counted(chunks, taken))


def told_lacking(folder: ImageFolder, lock: ImageLock) -> str | None:
    """Return the line that names all images of a lock that the folder has not."""
    if not folder.missing:
        return None
    names = ", ".join(f"{name}@{lock.images[name].digest}" for name in folder.missing)
    return (
        f"{folder.path} lacks {len(folder.missing)} of {len(lock.images)} images of the lock "
        f"{lock.source}, or parts of them; upstreams are asked for: {names}"
    )


async def _counted(
    chunks: AsyncIterator[bytes], taken: Callable[[int], None]
) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        taken(len(chunk))


def _listed(path: Path) -> list[Descriptor]:
    """Return what the folder's index lists (image specification, "Image Layout")."""
    try:
        layout = json.loads((path / "oci-layout").read_bytes())
        index = Manifest.stored((path / "index.json").read_bytes(), "")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its oci-layout is not JSON"
        raise ConfigError(
            f"{path} is no folder of images in the OCI layout: {reason}; "
            "buildset-registry copy --lock FILE oci:DIR makes one"
        ) from None
    version = layout.get("imageLayoutVersion") if isinstance(layout, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        raise ConfigError(f"{path} is an OCI layout of version {version!r:.40}, not of 1.0.0")
    return list(index.manifests)


def _read(path: Path, digest: Digest, media_type: str | None) -> Manifest | None:
    """Return a manifest whose bytes are those of its digest, None where it is not there."""
    size = _size(path, digest)
    if size is None or size > MAX_MANIFEST:
        return None
    try:
        raw = _file(path, digest).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {_file(path, digest)}: {error.strerror}; let the registry's user read it"
        ) from None
    if Digest.of(raw, digest.algorithm) != digest:
        raise ConfigError(f"{_file(path, digest)} is damaged; copy the images of the lock again")
    return Manifest.stored(raw, media_type or stored_media_type(raw), digest.algorithm)


def _size(path: Path, digest: Digest) -> int | None:
    file = _file(path, digest)
    return file.stat().st_size if file.is_file() else None


def _file(path: Path, digest: Digest) -> Path:
    return path / "blobs" / digest.algorithm / digest.hex


def _subject(manifest: Manifest) -> Digest | None:
    return manifest.subject.digest if manifest.subject else None
