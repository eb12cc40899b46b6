# SPDX-License-Identifier: Apache-2.0
"""The repositories that hold a blob, as far as is remembered: the way from a digest to its links.

On disk there is only the way from a repository to its blobs, and to search them all takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName

#: Digests that are remembered, some 300 bytes each; the one linked longest ago goes first.
_REMEMBERED = 16384
#: Repositories of one digest; the one linked longest ago goes first.
_MOST_NAMES = 8


class Holders:
    """The repositories in which blobs were linked since the start.

    It is a hint, since links are removed, and many are forgotten: whoever is given a repository
    looks there again.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._names: Latest[Digest, tuple[RepositoryName, ...]] = Latest(limit)

    def add(self, name: RepositoryName, digest: Digest) -> None:
        """Note that a repository holds a blob."""
        others = [one for one in self.of(digest) if one != name]
        self._names[digest] = (name, *others[: _MOST_NAMES - 1])

    def of(self, digest: Digest) -> Sequence[RepositoryName]:
        """Return the repositories that may hold a blob, the latest first."""
        return self._names.get(digest, ())
