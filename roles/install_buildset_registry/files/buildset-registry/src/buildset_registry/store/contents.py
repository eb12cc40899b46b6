# SPDX-License-Identifier: Apache-2.0
"""Content that was read a while ago: what a digest names is the same for ever, wherever it is."""

from __future__ import annotations

from collections import OrderedDict

from buildset_registry.oci.digest import Digest

#: Bytes of manifests in all, and of the largest that is kept.
_CACHED_BYTES = 8 * 1024 * 1024
_LARGEST = 256 * 1024


class ContentCache:
    """Small blobs (manifests) by digest; past ``limit`` bytes, what was used longest ago goes."""

    def __init__(self, limit: int = _CACHED_BYTES) -> None:
        self._limit = limit
        self._contents: OrderedDict[Digest, bytes] = OrderedDict()
        self._size = 0

    def get(self, digest: Digest) -> bytes | None:
        """Return the content, if it is here."""
        content = self._contents.get(digest)
        if content is not None:
            self._contents.move_to_end(digest)
        return content

    def add(self, digest: Digest, content: bytes) -> None:
        """Keep content, unless it is large, or damaged: a push may mend it on the disk."""
        if len(content) > _LARGEST or digest in self._contents:
            return
        if Digest.of(content, digest.algorithm) != digest:
            return
        self._contents[digest] = content
        self._size += len(content)
        while self._size > self._limit:
            self._size -= len(self._contents.popitem(last=False)[1])

    def removed(self, digest: Digest) -> None:
        """Forget content that was removed."""
        content = self._contents.pop(digest, None)
        if content is not None:
            self._size -= len(content)
