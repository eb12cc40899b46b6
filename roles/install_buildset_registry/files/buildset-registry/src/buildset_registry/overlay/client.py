# SPDX-License-Identifier: Apache-2.0
"""A client of upstreams that asks for overlaid images at the registry that holds them.

What belongs to one is asked for there alone, so that a registry which fails is an error that names
it and no other image. What may belong to none is upstream's; only where no upstream has it by its
digest, the holders of the repository's images are asked: a client may know an image before it asks
for its manifest here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from buildset_registry.errors import (
    BlobHidden,
    BlobUnknown,
    ImageGone,
    ManifestHidden,
    ManifestUnknown,
    RegistryError,
    UpstreamFailed,
)
from buildset_registry.image_tree import ImageTrees
from buildset_registry.latest import Latest
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName, Tag
from buildset_registry.overlay.document import ImageHolder, OverlaidImage
from buildset_registry.overlay.holders import HolderClients
from buildset_registry.overlay.table import OverlaidTags
from buildset_registry.store.base import Store
from buildset_registry.upstream.client import RemoteBlob, RemoteManifest, UpstreamClient
from buildset_registry.upstream.counters import UpstreamCounters
from buildset_registry.upstream.hosts import Upstream, Upstreams

_Result = TypeVar("_Result")
#: What holders listed as referring to images: clients ask for it next.
_REMEMBERED = 4096
#: Holders that are asked for what no upstream has, those first whose tokens last longest: whoever
#: hands images over decides how many there are, and anybody may ask.
_MOST_ASKED = 32
#: Ask a registry about a repository of its.
_Ask = Callable[[UpstreamClient, RepositoryName], Awaitable[_Result]]
_AskHolder = Callable[[ImageHolder, RepositoryName], Awaitable[_Result]]


class OverlayClient:
    """Asks the holders of overlaid images for these, and ``others`` for everything else."""

    def __init__(self, others: UpstreamClient, overlaid: OverlaidTags, store: Store) -> None:
        self.counters = others.counters
        self._others = others
        self._overlaid = overlaid
        self._store = store
        self._trees = ImageTrees(store)
        self._clients = HolderClients(self._client, lambda: overlaid.overlay.holders)
        self._listed: Latest[tuple[RepositoryName, Digest], OverlaidImage] = Latest(_REMEMBERED)

    def serves(self, name: RepositoryName) -> bool:
        """Tell whether somebody may be asked about a repository."""
        return self._others.serves(name) or bool(self._overlaid.of(name))

    async def head(self, name: RepositoryName, reference: Reference) -> Descriptor:
        """Return a manifest's descriptor as it is now."""
        return await self._routed(name, reference, lambda one, at: one.head(at, reference))

    async def manifest(self, name: RepositoryName, reference: Reference) -> RemoteManifest:
        """Fetch a manifest and verify its digest."""
        return await self._routed(name, reference, lambda one, at: one.manifest(at, reference))

    async def referrers(self, name: RepositoryName, subject: Digest) -> list[Descriptor] | None:
        """Return the manifests that name one as their subject; None where a registry lists none."""
        image = await self._image_of(name, subject)
        if image is None:
            return await self._others.referrers(name, subject)
        if not image.holder.token:
            return None  # as of one whose token is refused
        async with self._clients.using(image.holder) as client:
            found = await client.referrers(image.there, subject)
        for one in found or ():
            self._listed[name, one.digest] = image
        return found

    async def blob_size(self, name: RepositoryName, digest: Digest) -> int:
        """Return a blob's size in bytes without fetching it."""
        return await self._routed(name, digest, lambda one, at: one.blob_size(at, digest))

    @asynccontextmanager
    async def blob(
        self,
        name: RepositoryName,
        digest: Digest,
        offset: int = 0,
        taken: Callable[[int], None] = lambda _length: None,
    ) -> AsyncIterator[RemoteBlob]:
        """Open a blob from ``offset`` on."""
        async with AsyncExitStack() as stack:

            async def begin(one: UpstreamClient, at: RepositoryName) -> RemoteBlob:
                return await stack.enter_async_context(one.blob(at, digest, offset, taken))

            yield await self._routed(name, digest, begin, stack)

    async def close(self) -> None:
        """End all connections."""
        await self._clients.close()
        await self._others.close()

    async def _routed(
        self,
        name: RepositoryName,
        reference: Reference,
        ask: _Ask[_Result],
        stack: AsyncExitStack | None = None,
    ) -> _Result:
        """Ask whoever has something; a client that goes on being used is left to ``stack``."""
        if stack is None:
            async with AsyncExitStack() as own:
                return await self._routed(name, reference, ask, own)
        asking = partial(self._ask, stack, ask)
        image = await self._image_of(name, reference)
        if image is not None:
            return await self._ask_holder(image, reference, asking)
        try:
            return await ask(self._others, name)
        except RegistryError as refusal:
            if isinstance(reference, Tag) or not self._overlaid.of(name):
                raise
            return await self._ask_holders(name, asking, refusal)

    async def _ask(
        self,
        stack: AsyncExitStack,
        ask: _Ask[_Result],
        holder: ImageHolder,
        there: RepositoryName,
    ) -> _Result:
        """Ask a holder by its client, which stays for as long as ``stack`` lasts."""
        client = await stack.enter_async_context(self._clients.using(holder))
        return await ask(client, there)

    async def _image_of(self, name: RepositoryName, reference: Reference) -> OverlaidImage | None:
        """Return the image that something belongs to, or refers to a part of."""
        images = self._overlaid.of(name)
        for image in images:
            if image.digest == reference:
                return image
        if isinstance(reference, Digest) and (name, reference) in self._listed:
            return self._listed[name, reference]
        # What belongs to none is looked for once, however many images the repository has.
        if not await self._belongs(name, images, reference):
            return None
        if len(images) == 1:
            return images[0]
        for image in images:
            if await self._belongs(name, [image], reference):
                return image
        return None

    async def _belongs(
        self, name: RepositoryName, images: Sequence[OverlaidImage], reference: Reference
    ) -> bool:
        """Tell whether something belongs to one of some images, or refers to a part of one."""
        indexes = (self._store.cached(name.canonical),)
        roots = [image.digest for image in images]
        return await self._trees.holds(indexes, roots, reference, name)

    async def _ask_holder(
        self, image: OverlaidImage, reference: Reference, ask: _AskHolder[_Result]
    ) -> _Result:
        """Ask for a part of an image; where it is not there any more, say whose image it was."""
        holder = image.holder
        if not holder.token:
            raise ManifestHidden if isinstance(reference, Tag) else _ended(image)
        try:
            return await ask(holder, image.there)
        except (ManifestUnknown, BlobUnknown) as error:
            if isinstance(reference, Tag):  # a signature that need not be there
                raise
            if isinstance(error, (ManifestHidden, BlobHidden)) and time.time() > holder.expires:
                raise _ended(image) from None
            says = f", and says: {error.detail}" if error.detail else ""
            raise ImageGone(
                f"{_made(image)} {holder.host} has removed it since, or a part of it ({reference})"
                f"{says}; run that build again"
            ) from None

    async def _ask_holders(
        self, name: RepositoryName, ask: _AskHolder[_Result], refusal: RegistryError
    ) -> _Result:
        """Ask for what no upstream has; where nobody has it, the upstream's word counts."""
        images = self._overlaid.of(name)
        places = ((image.holder, image.there) for image in images if image.holder.token)
        for holder, there in islice(dict.fromkeys(places), _MOST_ASKED):
            try:
                return await ask(holder, there)
            except (ManifestUnknown, BlobUnknown):
                continue
            except RegistryError as error:
                refusal = error
        raise refusal

    def _client(self, holder: ImageHolder) -> UpstreamClient:
        return holder_client(holder, self._overlaid.folder, self.counters)


def _made(image: OverlaidImage) -> str:
    return f"{image.name}, made by {image.made_by}:"


def _ended(image: OverlaidImage) -> UpstreamFailed:
    """Return the refusal of an image whose token has ended."""
    holder = image.holder
    return UpstreamFailed(
        f"{_made(image)} the token for it at {holder.host} has ended at {holder.ended}; "
        "have the images of other builds pulled again"
    )


def holder_client(
    holder: ImageHolder, folder: Path, counters: UpstreamCounters | None = None
) -> UpstreamClient:
    """Return a client of a registry that holds overlaid images; its authority is in a folder."""
    ca = None if holder.authority is None else folder / holder.authority
    upstream = Upstream(name=holder.host, url=f"https://{holder.host}", ca=ca, token=holder.token)
    return UpstreamClient(Upstreams([upstream]), counters=counters)
