# SPDX-License-Identifier: Apache-2.0
"""Copying images: plan, bring the blobs side by side, then manifests from below, the tag last.

``copy_images`` is what the command and the modules for Ansible call.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from ..errors import RegistryError
from ..oci.descriptor import Descriptor
from ..oci.digest import Digest
from ..oci.manifest import Manifest
from ..oci.names import Tag
from ..protocol.errors import UpstreamError
from .content import BlobReader, ImageDestination, ImageSource, SourceFailed
from .ends import EndAccess, Ends
from .errors import ContentMismatch, TransferError
from .image_names import CopyRequest, LayoutImage
from .plan import LARGE, CopyPlan, PlannedManifest, Planner, PlanOptions
from .remote import mountable

#: Seconds of a wait after which signals are looked at.
_LONGEST_WAIT = 0.5
#: The failures of one image, each with a message in one line.
FAILURES = (TransferError, RegistryError, UpstreamError)
#: Those of a blob that are the source's.
_OF_SOURCE = (SourceFailed, ContentMismatch)
#: Told what has been done of a stage, and of how much.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CopyOptions:
    """The way in which images are copied."""

    platforms: tuple[str, ...] = ()
    """Empty means all of them."""

    sparse: bool = False
    """Whether an index may be copied without all that it lists."""

    referrers: bool = False
    tag_first: bool = False
    """Whether an image gets its tag before what refers to it comes: a token for a single image lets
    that be sent once it is known what the image is."""

    dry_run: bool = False
    small_at_once: int = 24
    large_at_once: int = 4
    journal: Path | None = None
    """Where uploads that have begun are remembered; None remembers none."""

    report: Report | None = None
    patience: float = 1.0
    """The factor by which pauses between tries are longer."""


@dataclass
class CopyResult:
    """The outcome for one image."""

    source: str
    destination: str
    digest: str = ""
    media_type: str = ""
    platforms: list[str] = field(default_factory=list)
    referrers: list[str] = field(default_factory=list)
    """The digests of what refers to it and goes along."""

    moved: int = 0
    """Bytes of blobs that were sent; what another image of the run brought is not counted twice."""

    mounted: int = 0
    skipped: int = 0
    error: str = ""
    """What went wrong, in one line; then nothing was tagged."""


@dataclass
class CopyReport:
    """The outcome for all of them."""

    images: list[CopyResult]

    @property
    def failed(self) -> list[CopyResult]:
        """The images that were not copied."""
        return [one for one in self.images if one.error]

    def to_json(self) -> dict[str, object]:
        """Return the report as ``--json`` prints it."""
        sums = {
            key: sum(getattr(one, key) for one in self.images)
            for key in ("moved", "mounted", "skipped")
        }
        return {"images": [asdict(one) for one in self.images], **sums}


def copy_images(
    requests: Sequence[CopyRequest],
    source: EndAccess | None = None,
    destination: EndAccess | None = None,
    options: CopyOptions | None = None,
) -> CopyReport:
    """Copy images; one that fails is told in its result, and does not stop the others.

    ``TransferError`` is raised for what concerns all of them, such as a CA that cannot be read.
    """
    chosen = options or CopyOptions()
    with Ends(
        source or EndAccess(), destination or EndAccess(), chosen.journal, chosen.patience
    ) as ends:
        return _Copier(ends, chosen).run(requests)


@dataclass
class _Image:
    """An image on its way."""

    request: CopyRequest
    source: ImageSource
    destination: ImageDestination
    result: CopyResult
    plan: CopyPlan | None = None

    @property
    def way(self) -> _Way:
        return self.source, self.destination

    def fail(self, error: Exception) -> None:
        self.result.error = self.result.error or str(error)


@dataclass
class _BlobJob:
    """A blob to bring, and every repository that lacks it."""

    descriptor: Descriptor
    images: list[_Image] = field(default_factory=list)

    @property
    def first_images(self) -> Iterable[_Image]:
        """The first image of each repository."""
        return {one.destination: one for one in reversed(self.images)}.values()


def _blob_jobs(images: Iterable[_Image]) -> list[_BlobJob]:
    """Return what is to be brought, each blob once, the large ones first."""
    jobs: dict[Digest, _BlobJob] = {}
    for image in images:
        for blob in image.plan.blobs.values() if image.plan else ():
            jobs.setdefault(blob.digest, _BlobJob(blob)).images.append(image)
    return sorted(jobs.values(), key=lambda one: one.descriptor.size, reverse=True)


_Place = tuple[ImageDestination, Digest]
_Way = tuple[ImageSource, ImageDestination]


def _settle(futures: Iterable[Future[None]]) -> None:
    """Wait until all is done, or raise what has failed.

    A signal that comes as a wait begins is not seen before its end: so no wait is long.
    """
    left = set(futures)
    while left:
        done, left = wait(left, _LONGEST_WAIT, return_when=FIRST_EXCEPTION)
        for one in done:
            one.result()


class _Copier:
    """One run over some images."""

    def __init__(self, ends: Ends, options: CopyOptions) -> None:
        self._ends = ends
        self._options = options
        self._report = options.report or (lambda _stage, _done, _total: None)
        self._lock = threading.Lock()
        self._moved = self._total = 0
        self._put_locks: dict[_Place, threading.Lock] = defaultdict(threading.Lock)
        self._put_there: set[_Place] = set()
        self._small = ThreadPoolExecutor(options.small_at_once, "copy-small")
        self._planning = ThreadPoolExecutor(options.large_at_once, "copy-plan")
        self._pools = [self._planning, self._small]

    def run(self, requests: Sequence[CopyRequest]) -> CopyReport:
        """Copy, and tell what became of each."""
        try:
            images = [self._image(request) for request in requests]
            self._report("images", 0, len(images))
            _settle([self._planning.submit(self._plan, one) for one in images])
            jobs = _blob_jobs(images)
            if not self._options.dry_run:
                self._bring_blobs(jobs, [one for one in images if one.plan])
                self._put_all(images)
            else:
                for job in jobs:
                    for image in job.first_images:
                        image.result.moved += job.descriptor.size
        except BaseException:
            # Threads that wait for a server wait no longer.
            self._ends.close()
            raise
        finally:
            for pool in self._pools:
                pool.shutdown(wait=True, cancel_futures=True)
        return CopyReport([image.result for image in images])

    def _image(self, request: CopyRequest) -> _Image:
        result = CopyResult(str(request.source), str(request.destination))
        return _Image(
            request,
            self._ends.source(request.source),
            self._ends.destination(request.destination),
            result,
        )

    def _plan(self, image: _Image) -> None:
        target = image.request.destination
        options = PlanOptions(
            self._options.platforms,
            self._options.sparse,
            self._options.referrers,
            self._options.large_at_once,
            None if isinstance(target, LayoutImage) else target.digest,
        )
        planner = Planner(image.source, image.destination, self._small, self._ends.sleep)
        wanted = target.ref if isinstance(target, LayoutImage) else target.tag or target.digest
        origin = image.request.source
        reference = origin.ref if isinstance(origin, LayoutImage) else origin.reference
        try:
            plan = planner.plan(reference, wanted, options)
        except FAILURES as error:
            image.fail(error)
            return
        image.plan = plan
        image.result.digest = str(plan.root.manifest.digest)
        image.result.media_type = plan.root.manifest.media_type
        image.result.platforms = plan.platforms
        image.result.referrers = [str(one.manifest.digest) for one in plan.referrers]
        image.result.skipped = plan.skipped

    def _bring_blobs(self, jobs: Sequence[_BlobJob], images: Sequence[_Image]) -> None:
        """Bring every blob."""
        self._total = sum(one.descriptor.size for one in jobs)
        self._report("bytes", 0, self._total)
        large = ThreadPoolExecutor(self._streams(images), "copy-large")
        self._pools.append(large)
        futures: list[Future[None]] = []
        for job in jobs:
            pool = large if job.descriptor.size >= LARGE else self._small
            futures.append(pool.submit(self._bring, job))
        _settle(futures)

    def _streams(self, images: Sequence[_Image]) -> int:
        """Return how many large blobs are brought at once; this machine's ends share processors."""
        most = self._options.large_at_once
        here = all(one.source.here and one.destination.here for one in images)
        return min(most, max(2, os.cpu_count() or 1)) if here else most

    def _bring(self, job: _BlobJob) -> None:
        """Bring a blob to each repository that lacks it: the second one mounts it.

        What one source does not give, another one may have.
        """
        brought: dict[ImageDestination, Exception | None] = {}
        asked: set[_Way] = set()
        for image in job.images:
            known = image.destination in brought
            lacking = isinstance(brought.get(image.destination), _OF_SOURCE)
            if image.way in asked or (known and not lacking):
                continue
            asked.add(image.way)
            others = [one for one, failed in brought.items() if failed is None]
            brought[image.destination] = self._write(job.descriptor, image, others)
        for image in job.images:
            error = brought[image.destination]
            if error is not None:
                image.fail(error)

    def _write(
        self, blob: Descriptor, image: _Image, others: Sequence[ImageDestination]
    ) -> Exception | None:
        reader = BlobReader(
            blob, lambda offset: image.source.open_blob(blob.digest, offset), self._ends.sleep
        )

        def sent(size: int) -> None:
            with self._lock:
                self._moved += size
                image.result.moved += size
                self._report("bytes", self._moved, self._total)

        try:
            mounted = image.destination.write_blob(
                reader, sent, mountable([*others, image.source], image.destination)
            )
        except FAILURES as error:
            return error
        if mounted:
            with self._lock:
                image.result.mounted += blob.size
                self._total -= blob.size
        return None

    def _put_all(self, images: Sequence[_Image]) -> None:
        """Put the manifests of all images; what one lists that is another comes before it.

        A registry may read a manifest while it is put a second time, and find half of it:
        distribution 2.8 writes its files in place.
        """
        planned = [(one.plan.root.height, one) for one in images if one.plan]
        for height in sorted({height for height, _one in planned}):
            group = [one for known, one in planned if known == height]
            _settle([self._planning.submit(self._put_manifests, one) for one in group])

    def _put_manifests(self, image: _Image) -> None:
        """Put what is missing, children first; the tag last, when everything else is there.

        With ``tag_first``, what refers to the image comes after it.
        """
        plan = image.plan
        if plan is None or image.result.error:
            return
        try:
            tag_first = self._options.tag_first
            for level in plan.levels(tag_first=tag_first):
                self._each_manifest(image, level)
            if tag_first:
                self._tag(image, plan)
            elif plan.referrers and not plan.root.present:
                self._put_once(image, plan.root.manifest, None)
            unlisted = set() if tag_first else self._unlisted(image, plan)
            for one in plan.referrers:
                # A copy that broke off may have put it, and not have had it listed yet.
                again = not plan.tagged or one.manifest.digest in unlisted
                self._put(image, one, again=again)
            if not tag_first:
                self._tag(image, plan, again=plan.root.manifest.digest in unlisted)
        except FAILURES as error:
            image.fail(error)

    def _unlisted(self, image: _Image, plan: CopyPlan) -> set[Digest]:
        """Return what refers to a manifest, and is not listed as doing so at the destination."""
        known = [one.manifest for one in (*plan.referrers, plan.root)]
        subjects = {one.digest: one.subject.digest for one in known if one.subject}
        if not plan.tagged:
            return set(subjects)
        lists = self._small.map(partial(_listed, image.destination), set(subjects.values()))
        return set(subjects).difference(*lists)

    def _tag(self, image: _Image, plan: CopyPlan, *, again: bool = False) -> None:
        request = image.request.destination
        name = request.ref if isinstance(request, LayoutImage) else request.tag
        if again or not plan.tagged:
            self._put_once(image, plan.root.manifest, name or "")

    def _each_manifest(self, image: _Image, level: Sequence[PlannedManifest]) -> None:
        list(self._small.map(lambda one: self._put(image, one), level))

    def _put(self, image: _Image, planned: PlannedManifest, *, again: bool = False) -> None:
        if again or planned.tag is not None or not planned.present:
            self._put_once(image, planned.manifest, planned.tag)

    def _put_once(self, image: _Image, manifest: Manifest, name: Tag | str | None) -> None:
        """Put a manifest under a name, or else unless that was done for another image."""
        place = (image.destination, manifest.digest)
        with self._lock:
            lock = self._put_locks[place]
        with lock:
            if name is not None or place not in self._put_there:
                image.destination.put_manifest(manifest, name)
                self._put_there.add(place)


def _listed(destination: ImageDestination, subject: Digest) -> set[Digest]:
    """Return what a destination lists as referring to a manifest, as far as it tells."""
    with suppress(*FAILURES):
        return {one.digest for one in destination.referrers(subject).items}
    return set()
