# SPDX-License-Identifier: Apache-2.0
"""A repository of a registry, as source and as destination: the specification's client.

Sources: sections "Pulling blobs", "Pushing manifests", "Mounting a blob from another repository"
and "Listing Referrers".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from urllib.parse import quote

from ..errors import RegistryError
from ..oci.descriptor import DOCKER_SCHEMA1, IMAGES, INDEXES, OCI_INDEX, Descriptor
from ..oci.digest import Digest
from ..oci.manifest import MAX_MANIFEST, Manifest, stored_media_type
from ..oci.names import Reference, referrers_tag
from ..protocol import resume
from ..protocol.errors import UpstreamError
from ..protocol.links import next_link
from .connections import Body
from .content import (
    BlobReader,
    ImageDestination,
    ImageSource,
    ListedReferrers,
    Piece,
    Sent,
    read_manifest,
)
from .errors import ContentMismatch, TransferError
from .http_client import Reply
from .session import Call, RegistrySession, absolute, message_of
from .uploads import BlobUpload, UploadJournal

ACCEPT = ", ".join((*sorted(INDEXES | IMAGES), *sorted(DOCKER_SCHEMA1), "*/*"))
_MISSING = frozenset({404})
_HIDDEN = frozenset({401, 403, 404})
#: The longest list of referrers: pages of it, and manifests.
_MOST_PAGES, _MOST_REFERRERS = 100, 20_000
#: Bytes of a page of tags; some registries have one page for all.
_MAX_PAGE = 64 << 20
#: Answers of registries that have no API of referrers.
_NO_API = frozenset({400, 404, 405, 406, 501})
#: Answers to a mount that mean: push the blob (harbor, ECR and others; IMAGES of any registry).
_NO_MOUNT = frozenset({400, 401, 403, 404, 405})


class RemoteRepository:
    """One repository of one registry, and the rights that its tokens need."""

    def __init__(
        self,
        session: RegistrySession,
        repository: str,
        *,
        aside: Executor,
        writes: bool = False,
        journal: UploadJournal | None = None,
    ) -> None:
        self.session = session
        self.aside = aside
        """For what need not wait for the other end."""

        self.repository = repository
        self.journal = journal
        self.scope = f"repository:{repository}:pull{',push' if writes else ''}"
        # Some registries hide what is not there (yet) from who may push; the push itself tells.
        self._missing = _HIDDEN if writes else _MISSING
        # Copies run side by side, and what refers to one image is listed in one place.
        self._listing = threading.Lock()
        self.largest_chunk = 0
        """The largest body that the way there takes, 0 where none is known to be too large."""

    def __str__(self) -> str:
        return f"{self.session.name}/{self.repository}"

    @property
    def here(self) -> bool:
        """Whether it has been reached, and is on this machine."""
        return self.session.here

    def call(
        self,
        method: str,
        path: str,
        accepted: Iterable[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        once: bool = False,
    ) -> Reply:
        """Send a request about this repository; a path that is none of ours is an address."""
        whole = self.path(path)
        call = Call(method, whole, self.scope, headers or {}, body, once)
        return self.session.call(call, accepted)

    def read(
        self, path: str, accepted: Iterable[int], accept: str, limit: int
    ) -> tuple[Reply, bytes]:
        """Ask for a document of the repository, and read it where it is found."""
        call = Call("GET", self.path(path), self.scope, {"Accept": accept})
        return self.session.read(call, accepted, limit)

    def path(self, rest: str) -> str:
        """Return the path of something in the repository; what is a path or an address stays."""
        return rest if "://" in rest or rest.startswith("/") else f"/v2/{self.repository}/{rest}"

    def manifest(self, reference: Reference | str | None) -> Manifest | None:
        """Return a manifest, None where there is none; what is asked for by digest is verified."""
        where = f"{self}:{reference}"
        reply, raw = self.read(f"manifests/{reference}", (200, 404), ACCEPT, MAX_MANIFEST)
        if reply.status == 404:
            return None
        kind = reply.headers.get("Content-Type", "")
        if not raw.lstrip().startswith(b"{"):  # a folder would take it
            page = kind.lower().startswith("text/html")
            told = (
                "a web page and no manifest" if page else "no manifest, which is an object of JSON"
            )
            raise TransferError(f"{where} is {told}; check the name")
        found = read_manifest(raw, kind, where)
        stated = reference if isinstance(reference, Digest) else _stated(reply)
        if stated is not None and Digest.of(raw, stated.algorithm) != stated:
            raise ContentMismatch(f"{where} is not what its digest {stated} stands for")
        if stated is not None and stated.algorithm != found.digest.algorithm:
            return Manifest.stored(raw, found.media_type, stated.algorithm)
        return found

    def said_of(self, reference: Reference | str | None) -> str:
        """Return what is said of a manifest that is not there: when it was removed, say."""
        reply = self.call("GET", f"manifests/{reference}", (200, 404), {"Accept": ACCEPT})
        said = message_of(reply) if reply.status == 404 else ""
        reply.close()
        return said

    def expect_blobs(self, count: int) -> None:
        """Open connections for so many blobs, while their destination is asked about them.

        To one on this machine a connection takes no time, but a millisecond of its processor.
        """
        if self.here:
            return
        for _one in range(count):
            self.aside.submit(self.session.open_ahead, count)

    def expect_writes(self) -> None:
        """Log in: some registries ask for that only when they are written to."""
        self.session.log_in_ahead(self.scope)

    def find_manifest(self, reference: Reference | str | None) -> Digest | None:
        """Return the digest of a manifest that is there; by GET where HEAD does not tell it."""
        path, headers = f"manifests/{reference}", {"Accept": ACCEPT}
        reply = self.call("HEAD", path, (200, 405, *self._missing), headers)
        reply.discard()
        if reply.status in self._missing:
            return None
        if reply.status == 200 and isinstance(reference, Digest):
            return reference
        if stated := _stated(reply):
            return stated
        found = self.manifest(reference)
        return found.digest if found else None

    def put_manifest(self, manifest: Manifest, reference: Reference | str | None) -> None:
        """Push a manifest; a registry without the referrers API has them listed by a tag."""
        headers = {"Content-Type": manifest.media_type}
        target = reference or manifest.digest
        reply = self.call("PUT", f"manifests/{target}", (200, 201, 202), headers, manifest.raw)
        subject = reply.headers.get("OCI-Subject")
        stated = _stated(reply)
        reply.discard()
        if reply.status == 200 and stated is None and "Location" not in reply.headers:
            raise TransferError(
                f"{self} does not say that it has stored {manifest.digest}, as a registry does; "
                "check the name"
            )
        if stated not in (None, manifest.digest) and stated.algorithm == manifest.digest.algorithm:
            raise ContentMismatch(
                f"{self} stored {manifest.digest} as {stated}; a copy must not change digests"
            )
        if manifest.subject is not None and subject is None:
            self._list_referrer(manifest.subject.digest, manifest)

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""
        reply = self.call("HEAD", f"blobs/{digest}", (200, 405, *self._missing))
        reply.discard()
        return reply.status == 200

    def open_blob(self, digest: Digest, offset: int) -> Iterator[Piece]:
        """Yield a blob's bytes from an offset on."""
        headers = {"Accept": "*/*", **resume.requested(offset)}
        reply = self.call("GET", f"blobs/{digest}", (200, 206, 404, 416), headers)
        if reply.status == 404:
            reply.discard()
            raise TransferError(f"{self} has no blob {digest} any more; push the image again")
        try:
            place = resume.received(reply.status, headers_of(reply), offset)
        except UpstreamError as error:
            reply.close()
            raise TransferError(f"{self} {error.reason}") from None
        yield from _after(reply.pieces(), place.skip)

    def write_blob(self, blob: BlobReader, sent: Sent, mount_from: str | None) -> bool:
        """Mount a blob from another repository of the registry, or else push it."""
        location = None
        if mount_from is not None:
            done, location = self._mount(blob.digest, mount_from)
            if done:
                return True
        BlobUpload(self, blob, sent).run(location)
        return False

    def _mount(self, digest: Digest, source: str) -> tuple[bool, str | None]:
        """Ask for a mount; returns whether it was done, and the upload that was begun instead."""
        path = self.path(f"blobs/uploads/?mount={digest}&from={quote(source, safe='/')}")
        scope = f"{self.scope} repository:{source}:pull"
        call = Call("POST", path, scope, {"Content-Length": "0"})
        try:
            reply = self.session.call(call, (201, 202, *_NO_MOUNT))
        except TransferError as error:
            if error.transient or error.pause or not error.status:
                raise
            return False, None
        reply.discard()
        location = reply.headers.get("Location")
        if reply.status == 202 and location:
            return False, absolute(reply.url, location, str(self))
        return reply.status == 201, None

    def tags(self) -> Iterator[str]:
        """Yield what is listed as tags, page by page; nothing where there is no such repository."""
        path: str | None = self.path("tags/list")
        seen: set[str] = set()
        while path is not None:
            reply, raw = self.read(path, (200, 404), "application/json", _MAX_PAGE)
            if reply.status == 404:
                return
            listed = _tags_of(raw, str(self))
            new = [one for one in listed if one not in seen]
            seen.update(new)
            yield from new
            link = next_link(reply.headers.get("Link")) if new else None
            path = absolute(reply.url, link, str(self)) if link else None

    def referrers(self, subject: Digest) -> ListedReferrers:
        """Return what refers to a manifest, by the API, or else as the fallback tag lists it."""
        found: dict[Digest, Descriptor] = {}
        path = self.path(f"referrers/{subject}")
        for _page in range(_MOST_PAGES):
            reply, raw = self.read(path, (200, *_NO_API), OCI_INDEX, MAX_MANIFEST)
            if stored_media_type(raw) != OCI_INDEX:
                return self._tagged_referrers(subject)
            listed = Manifest.stored(raw, OCI_INDEX).manifests
            found |= {one.digest: one for one in listed}
            link = next_link(reply.headers.get("Link"))
            if link is None:
                return ListedReferrers(tuple(found.values()))
            if len(found) > _MOST_REFERRERS:
                break
            path = absolute(reply.url, link, str(self))
        raise TransferError(f"{self} lists what refers to {subject} without an end")

    def _tagged_referrers(self, subject: Digest) -> ListedReferrers:
        index = self.manifest(referrers_tag(subject))
        return ListedReferrers(index.manifests if index else (), by_api=False)

    def _list_referrer(self, subject: Digest, manifest: Manifest) -> None:
        """Add to the fallback tag (section "Pushing Manifests with Subject")."""
        tag = referrers_tag(subject)
        with self._listing:
            index = self.manifest(tag)
            listed = index.manifests if index else ()
            if any(one.digest == manifest.digest for one in listed):
                return
            self.put_manifest(referrers_index([*listed, manifest.descriptor]), tag)


def mountable(
    candidates: Sequence[ImageDestination | ImageSource], destination: ImageDestination
) -> str | None:
    """Return the repository of the same registry that has the blob, if there is one."""
    if not isinstance(destination, RemoteRepository):
        return None
    for one in candidates:
        if (
            isinstance(one, RemoteRepository)
            and one.session.url == destination.session.url
            and one.repository != destination.repository
        ):
            return one.repository
    return None


def referrers_index(items: Iterable[Descriptor]) -> Manifest:
    """Return the index that a referrers tag names."""
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [one.to_json() for one in items],
    }
    return Manifest.stored(json.dumps(tree).encode(), OCI_INDEX)


def headers_of(reply: Reply) -> dict[str, str]:
    """Return the headers by their usual names: some servers write them in small letters."""
    return {name.title(): value for name, value in reply.headers.items()}


def _tags_of(raw: bytes, where: str) -> list[str]:
    """Return the tags of an answer; ``null`` means none to some registries."""
    try:
        tags = json.loads(raw)["tags"]
    except (ValueError, LookupError, TypeError, RecursionError):
        tags = False
    if tags is not None and not (isinstance(tags, list) and all(isinstance(t, str) for t in tags)):
        raise TransferError(f"{where} answers with what is no list of tags")
    return tags or []


def _stated(reply: Reply) -> Digest | None:
    text = reply.headers.get("Docker-Content-Digest")
    try:
        return Digest.parse(text) if text else None
    except RegistryError:
        return None


def _after(pieces: Iterator[memoryview], skip: int) -> Iterator[Piece]:
    """Leave the first bytes out: some servers send the whole blob whatever was asked for."""
    for piece in pieces:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield piece[skip:]
        skip = 0
