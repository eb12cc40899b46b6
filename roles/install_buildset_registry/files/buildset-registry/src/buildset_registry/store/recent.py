# SPDX-License-Identifier: Apache-2.0
"""Manifests that were read a short while ago, in memory: content by digest never changes."""

from __future__ import annotations

from collections import OrderedDict

from buildset_registry.oci.digest import Digest

#: Bytes in all, and of one manifest that is worth keeping.
_MOST = 8 * 1024 * 1024
_LARGEST = 256 * 1024


class Recent:
    """A bounded memory; what was used last is kept."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._held: OrderedDict[Digest, bytes] = OrderedDict()
        self._size = 0

    def get(self, digest: Digest) -> bytes | None:
        """Return the content, if it is remembered."""
        found = self._held.get(digest)
        if found is not None:
            self._held.move_to_end(digest)
        return found

    def add(self, digest: Digest, content: bytes) -> None:
        """Remember content, unless it is large, or damaged: a push may mend it on the disk."""
        if len(content) > _LARGEST or digest in self._held:
            return
        if Digest.of(content, digest.algorithm) != digest:
            return
        self._held[digest] = content
        self._size += len(content)
        while self._size > self._most:
            self._size -= len(self._held.popitem(last=False)[1])

    def forget(self, digest: Digest) -> None:
        """Forget content that was removed."""
        dropped = self._held.pop(digest, None)
        if dropped is not None:
            self._size -= len(dropped)
