# SPDX-License-Identifier: Apache-2.0
"""The plan of a copy: every manifest of an image, and what is at the destination already.

Nothing is written before the plan is whole: an image that lists what is missing at the source
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ..oci.descriptor import Descriptor
from ..oci.digest import Digest
from ..oci.manifest import Manifest
from ..oci.names import Reference, Tag, cosign_tags
from .content import ImageDestination, ImageSource
from .errors import ContentMismatch, TransferError
from .platforms import Platforms, chosen, image_platform, images_for, platforms_of

#: Indexes in indexes; deeper ones are an attack on whoever reads them.
_DEEPEST = 8
_MOST_MANIFESTS = 20_000
#: Bytes of manifests of one image, about; all of them are held until it is copied.
_MOST_BYTES = 128 << 20
#: Blobs from this size on take the whole way; of smaller ones most of the time is waiting: for
#: answers, and for TCP to find out how much the way takes.
LARGE = 32 << 20
#: Connections that are opened before they are needed, at most.
_AHEAD = 24
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(eq=False)
class PlannedManifest:
    """A manifest of the image, or one that refers to it."""

    manifest: Manifest
    present: bool
    """Whether the destination has it, and so what it links to."""

    children: list[PlannedManifest] = field(default_factory=list)
    parts: list[Descriptor] = field(default_factory=list)
    """What it lists among manifests that is none: BuildKit's caches list their layers so."""

    tag: Tag | None = None
    """The tag of its own that it gets: cosign's."""

    @cached_property
    def height(self) -> int:
        """0 for an image, more for what lists it; found once, however many list the same."""
        return 1 + max((one.height for one in self.children), default=-1)


@dataclass
class CopyPlan:
    """Everything that one image takes."""

    root: PlannedManifest
    manifests: dict[Digest, PlannedManifest]
    referrers: list[PlannedManifest]
    blobs: dict[Digest, Descriptor]
    """Those that the destination lacks."""

    skipped: int
    """The bytes of the blobs that are there."""

    tagged: bool
    """Whether the destination's tag names the image already."""

    platforms: list[str]

    @property
    def size(self) -> int:
        """The bytes of the blobs to be brought."""
        return sum(one.size for one in self.blobs.values())

    def levels(self, *, tag_first: bool) -> list[list[PlannedManifest]]:
        """Return the manifests that are missing, without the image's own and what refers to it:
        children before what lists them.

        An index may list what refers to one of its images, such as BuildKit's attestations. That
        comes with the children, unless what refers to an image is to come after its tag.
        """
        missing = [one for one in self.manifests.values() if not one.present]
        listed = {child for one in self.manifests.values() for child in one.children}
        others = {self.root, *(one for one in self.referrers if tag_first or one not in listed)}
        rest = [one for one in missing if one not in others]
        heights = sorted({one.height for one in rest})
        return [[one for one in rest if one.height == height] for height in heights]


@dataclass(frozen=True)
class PlanOptions:
    """The part of an image that is wanted."""

    platforms: Platforms = ()
    sparse: bool = False
    referrers: bool = False
    large_at_once: int = 4
    """Large blobs that are brought at once; each takes a connection."""

    digest: Digest | None = None
    """What the destination says that the image is, beside a tag."""


class Planner:
    """Looks at both ends, many things at a time."""

    def __init__(
        self,
        source: ImageSource,
        destination: ImageDestination,
        pool: ThreadPoolExecutor,
        sleep: Callable[[float], object],
    ) -> None:
        self._source = source
        self._destination = destination
        self._pool = pool
        self._sleep = sleep
        self._found: dict[Digest, PlannedManifest] = {}
        self._bytes = 0

    def plan(
        self,
        reference: Reference | str | None,
        target: Reference | str | None,
        options: PlanOptions,
    ) -> CopyPlan:
        """Find what has to be brought."""
        there = self._pool.submit(self._look_for, target)
        manifest = self._source.manifest(reference)
        if manifest is None:
            said = self._source.said_of(reference)
            says = f", and says: {said}" if said else ""
            raise TransferError(
                f"{self._source} has no {_named(reference)}{says}; push the image first"
            )
        manifest, narrowed = self._choose(manifest, options)
        root = self._planned(manifest)
        platforms = self._pool.submit(self._platforms, manifest, narrowed)
        self._walk([root], narrowed)
        _refuse_other_digest(options.digest or target, root.manifest)
        referrers = self._referrers() if options.referrers else []
        blobs, skipped = self._missing_blobs(options.large_at_once)
        return CopyPlan(
            root,
            self._found,
            referrers,
            blobs,
            skipped,
            there.result() == root.manifest.digest,
            platforms.result(),
        )

    def _look_for(self, target: Reference | str | None) -> Digest | None:
        found = self._destination.find_manifest(target)
        self._destination.expect_writes()
        return found

    def _choose(self, manifest: Manifest, options: PlanOptions) -> tuple[Manifest, Platforms]:
        """Return the manifest to copy and, where it stays an index, the platforms to take of it."""
        if not options.platforms or not manifest.manifests:
            return manifest, ()
        found = images_for(manifest, options.platforms)
        if options.sparse:
            return manifest, options.platforms
        if len(found) > 1:
            raise TransferError(
                "several platforms of an index are a sparse index, or the digest would change; "
                "say --sparse if that is meant"
            )
        return self._fetch(found[0]), ()

    def _fetch(self, descriptor: Descriptor) -> Manifest:
        found = self._source.manifest(descriptor.digest)
        if found is None:
            raise TransferError(
                f"{self._source} lists {descriptor.digest} and does not have it; the image there "
                "is sparse or broken, so choose by --platform what it has"
            )
        return found

    def _planned(self, manifest: Manifest) -> PlannedManifest:
        """Note a manifest, and whether the destination has it."""
        known = self._found.get(manifest.digest)
        if known is None:
            present = self._destination.find_manifest(manifest.digest) is not None
            known = self._found.setdefault(manifest.digest, PlannedManifest(manifest, present))
            self._bytes += len(manifest.raw)
        if len(self._found) > _MOST_MANIFESTS:
            raise TransferError(f"{self._source}: more than {_MOST_MANIFESTS:,} manifests")
        if self._bytes > _MOST_BYTES:
            raise TransferError(f"{self._source}: more than {_MOST_BYTES:,} bytes of manifests")
        return known

    def _listed(self, descriptor: Descriptor) -> PlannedManifest:
        """Fetch what is listed, and note it; what is noted already is not fetched again."""
        known = self._found.get(descriptor.digest)
        return self._planned(self._fetch(descriptor)) if known is None else known

    def _walk(self, level: Sequence[PlannedManifest], narrowed: Platforms = ()) -> None:
        """Find the manifests below some, level by level."""
        for _depth in range(_DEEPEST):
            pairs = [
                (parent, child)
                for parent in level
                for child in (
                    chosen(parent.manifest, narrowed) if narrowed else parent.manifest.manifests
                )
                if not child.is_part
            ]
            for parent in level:
                parent.parts = [one for one in parent.manifest.manifests if one.is_part]
            narrowed = ()
            if not pairs:
                return
            wanted = {child.digest: child for _parent, child in pairs}
            found = dict(zip(wanted, self._each(self._listed, wanted.values()), strict=True))
            for parent, child in pairs:
                parent.children.append(found[child.digest])
            level = [one for one in found.values() if not one.children]
        raise TransferError(f"{self._source}: indexes in indexes, more than {_DEEPEST} deep")

    def _referrers(self) -> list[PlannedManifest]:
        """Find what refers to the manifests, and to that; what was seen is not looked at again."""
        found: list[PlannedManifest] = []
        level = list(self._found.values())
        while level:
            known = set(self._found)
            for referring in self._each(self._referring, level):
                found += [one for one in referring if one not in found]
            fresh = [one for one in self._found.values() if one.manifest.digest not in known]
            self._walk(fresh)
            level = [one for one in self._found.values() if one.manifest.digest not in known]
        return found

    def _referring(self, subject: PlannedManifest) -> list[PlannedManifest]:
        """Return what names a manifest as its subject, and what cosign has by tags."""
        digest = subject.manifest.digest
        listed = self._source.referrers(digest).items
        found = [self._listed(one) for one in listed]
        for tag in cosign_tags(digest):
            manifest = self._source.manifest(tag)
            if manifest is not None:
                planned = self._planned(manifest)
                planned.tag = tag
                found.append(planned)
        return found

    def _missing_blobs(self, large_at_once: int) -> tuple[dict[Digest, Descriptor], int]:
        """Return the blobs to bring, and the bytes of those that are there."""
        wanted: dict[Digest, Descriptor] = {}
        there: dict[Digest, Descriptor] = {}
        for one in self._found.values():
            blobs = there if one.present else wanted
            blobs.update({blob.digest: blob for blob in (*one.manifest.blobs, *one.parts)})
        for digest in there:
            wanted.pop(digest, None)
        asked = list(wanted.values())
        small = sum(blob.size < LARGE for blob in asked)
        self._source.expect_blobs(min(small + min(len(asked) - small, large_at_once), _AHEAD))
        answers = self._each(lambda blob: self._destination.has_blob(blob.digest), asked)
        missing = {
            blob.digest: blob for blob, found in zip(asked, answers, strict=True) if not found
        }
        there.update({digest: blob for digest, blob in wanted.items() if digest not in missing})
        return missing, sum(blob.size for blob in there.values())

    def _platforms(self, manifest: Manifest, narrowed: Platforms) -> list[str]:
        """Return the platforms of the image; a single one's stands in its configuration."""
        if manifest.manifests:
            return platforms_of(manifest, narrowed)
        return image_platform(manifest, self._source, self._sleep)

    def _each(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Apply a function to items, side by side."""
        listed = list(items)
        if len(listed) == 1:
            return [function(listed[0])]
        return list(self._pool.map(function, listed))


def _named(reference: Reference | str | None) -> str:
    return str(reference) if reference is not None else "image"


def _refuse_other_digest(target: Reference | str | None, manifest: Manifest) -> None:
    """Refuse to put an image under a digest that it does not have."""
    if isinstance(target, Digest) and target != manifest.digest:
        raise ContentMismatch(
            f"the image is {manifest.digest} and cannot be stored as {target}; "
            "leave out the digest of the destination"
        )
