# SPDX-License-Identifier: Apache-2.0
"""The repositories of a bucket, found by the beginnings of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from buildset_registry.errors import NameInvalid
from buildset_registry.oci.names import RepositoryName
from buildset_registry.parallel import together
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.dialect import Objects
from buildset_registry.store.objects.lists import RecentLists

_PARTS = (keys.LAYERS, keys.MANIFESTS, keys.UPSTREAM)


class Repositories:
    """Finds repositories; a list is remembered for seconds."""

    def __init__(self, objects: Objects, root: str) -> None:
        self._objects = objects
        self._root = root
        self._recent: RecentLists[RepositoryName] = RecentLists()
        self._misnamed: Sequence[RepositoryName] = ()

    async def all(self) -> Sequence[RepositoryName]:
        """Return the names of those that hold something, in lexical order."""
        return await self._recent.get(self._root, self._find_all)

    async def misnamed(self) -> Sequence[RepositoryName]:
        """Return what holds something as a repository does, and has no repository's name."""
        await self.all()
        return self._misnamed

    async def with_uploads(self) -> list[RepositoryName]:
        """Return the names of those in which something is on its way."""
        found, _misnamed = await self._find(lambda one: one.endswith(f"/{keys.UPLOADS}"))
        return found

    def changed(self) -> None:
        """Forget what was found: this process changed something."""
        self._recent.forget(self._root)

    async def _find_all(self) -> list[RepositoryName]:
        found, misnamed = await self._find(lambda one: one.endswith(_PARTS))
        self._misnamed = sorted(misnamed)
        return found

    async def _find(
        self, wanted: Callable[[str], bool]
    ) -> tuple[list[RepositoryName], list[RepositoryName]]:
        """Go down through all names, some at once; ``wanted`` is told what is inside of each.

        The second list has those that are no repository's names.
        """
        found: list[RepositoryName] = []
        misnamed: list[RepositoryName] = []

        async def look(prefix: str) -> list[str]:
            children: list[str] = []
            async for page in self._objects.list(prefix, shallow=True):
                children += page.prefixes
            if any(wanted(one) for one in children):
                name = prefix[len(self._root) : -1]
                try:
                    found.append(RepositoryName.parse(name))
                except NameInvalid:
                    misnamed.append(RepositoryName(name))
            return [one for one in children if not one[len(prefix) :].startswith("_")]

        waiting = [self._root]
        while waiting:
            waiting = [one for some in await together(waiting, look) for one in some]
        return found, misnamed
