# SPDX-License-Identifier: Apache-2.0
"""A repository's referrers in objects, and what a list says of each."""

from __future__ import annotations

import json
from functools import partial

from buildset_registry.errors import RegistryError
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import DIGEST_BYTES, Digest
from buildset_registry.pacing import aside
from buildset_registry.parallel import all_of
from buildset_registry.store.objects import keys
from buildset_registry.store.objects.small import SmallObjects


class ObjectReferrers:
    """``_referrers/<subject>/<referrer>/{link,descriptor}``."""

    def __init__(self, repository: str, small: SmallObjects) -> None:
        self._repository = repository
        self._small = small

    async def add(self, subject: Digest, digest: Digest) -> None:
        key = keys.link(self._folder(subject), digest)
        await self._small.write(key, str(digest).encode())

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        folder = self._folder(subject)
        removed, _noted = await all_of(
            self._small.remove(keys.link(folder, digest)),
            self._small.remove(keys.descriptor(folder, digest)),
        )
        return removed

    async def of(self, subject: Digest) -> list[Digest]:
        folder = self._folder(subject)
        found = [
            digest
            async for page in self._small.objects.list(folder)
            for one in page.objects
            if (digest := keys.linked(folder, one.key)) is not None
        ]
        return await aside(DIGEST_BYTES * len(found), lambda: sorted(found, key=str))

    async def note(self, subject: Digest, digest: Digest, descriptor: Descriptor) -> None:
        content = json.dumps(descriptor.to_json(), separators=(",", ":")).encode()
        await self._small.write(keys.descriptor(self._folder(subject), digest), content)

    async def noted(self, subject: Digest, digest: Digest) -> Descriptor | None:
        found = await self._small.recall(keys.descriptor(self._folder(subject), digest))
        if found is None:
            return None
        try:
            read = partial(json.loads, found.content)
            return Descriptor.parse(await aside(len(found.content), read), "")
        except (ValueError, RegistryError):
            return None

    def _folder(self, subject: Digest) -> str:
        return keys.referrers(self._repository, subject)
