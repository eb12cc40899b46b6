# SPDX-License-Identifier: Apache-2.0
"""The keys of all objects, and the only functions that build them.

The layout is distribution's, so that its buckets can be served as they are and it can serve ours.
What that lacks stands beside it::

    <root>/
    ├── docker/registry/v2/
    │   ├── blobs/<algorithm>/<2 hex>/<hex>/data
    │   └── repositories/<name>/        as on a disk (filesystem/layout.py), but for
    │       └── _uploads/<uuid>/
    │           ├── startedat           when it began, for distribution
    │           ├── state               all that is known of it, and its last bytes (sessions.py)
    │           └── data                what arrived in parts, invisible until it is complete
    └── buildset-registry/
        ├── promises/<algorithm>/<2 hex>/<hex>/<kind>-<random>      (promises.py)
        ├── condemned/<algorithm>/<hex>
        ├── staged/<algorithm>/<2 hex>/<hex>/<uuid>  where a blob is till it is moved (staging.py)
        ├── staged-last/<algorithm>/<2 hex>/<hex>    the last of these notes, once more
        ├── downloads/<uuid>/state      what is on its way from an upstream
        ├── ledger/<hour>/...           what each server notes (the package ledger)
        ├── lease                       held by the process that collects
        ├── documents/<topic>/          what replicas share beside images
        │   ├── <name>
        │   └── lease                   held by the process that works on them
        ├── replicas/<random>           what each process tells of itself
        └── probe-<random>              made and removed at the start
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildset_registry.errors import DigestInvalid
from buildset_registry.oci.digest import ALGORITHMS, Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId

UPSTREAM = "_upstream/"
MANIFESTS = "_manifests/"
LAYERS = "_layers/"
UPLOADS = "_uploads/"

_LINK = re.compile(r"(?P<algorithm>sha\d+)/(?P<hex>[a-f0-9]+)/link")
_BLOB = re.compile(r"(?P<algorithm>sha\d+)/../(?P<hex>[a-f0-9]+)/data")
_STAGED = re.compile(r"(?P<algorithm>sha\d+)/../(?P<hex>[a-f0-9]+)/[^/]+")
_PROMISE = re.compile(r"(?P<algorithm>sha\d+)/../(?P<hex>[a-f0-9]+)/(?P<kind>[a-z])-[a-f0-9]+")


class Keys:
    """The keys below one root."""

    def __init__(self, root: str = "") -> None:
        """Take a root folder as distribution does: with slashes around it, or without."""
        top = root.strip("/")
        self.top = f"{top}/" if top else ""
        self.blobs = f"{self.top}docker/registry/v2/blobs/"
        self.repositories = f"{self.top}docker/registry/v2/repositories/"
        self.own = f"{self.top}buildset-registry/"
        self.downloads = f"{self.own}downloads/"
        self.ledger = f"{self.own}ledger/"
        self.lease = f"{self.own}lease"
        self.replicas = f"{self.own}replicas/"
        self.staged = f"{self.own}staged/"

    def blob(self, digest: Digest) -> str:
        return f"{self.blobs}{_spread(digest)}/data"

    def repository(self, name: RepositoryName) -> str:
        return f"{self.repositories}{name}/"

    def upload(self, name: RepositoryName, upload_id: UploadId) -> str:
        return f"{self.repositories}{name}/{UPLOADS}{upload_id}/"

    def download(self, upload_id: UploadId) -> str:
        return f"{self.downloads}{upload_id}/"

    def promises(self, digest: Digest) -> str:
        return f"{self.own}promises/{_spread(digest)}/"

    def condemned(self, digest: Digest) -> str:
        return f"{self.own}condemned/{digest.algorithm}/{digest.hex}"

    def staged_blob(self, digest: Digest) -> str:
        """Return the beginning of the keys of notes of a staged blob."""
        return f"{self.staged}{_spread(digest)}/"

    def staged_note(self, digest: Digest, upload_id: UploadId) -> str:
        return f"{self.staged_blob(digest)}{upload_id}"

    def staged_last(self, digest: Digest) -> str:
        """Return the key of a second note of a staged blob, which is found without a list."""
        return f"{self.own}staged-last/{_spread(digest)}"

    def staged_of(self, key: str) -> Digest | None:
        """Return the digest of the blob that a note is of; None for what is no note."""
        return _digest(_STAGED.fullmatch(key[len(self.staged) :]))

    def probe(self, word: str) -> str:
        return f"{self.own}probe-{word}"

    def documents(self, topic: str) -> str:
        return f"{self.own}documents/{topic}/"

    def algorithms(self) -> Iterator[str]:
        """Yield the beginnings of the keys of blobs, one for each algorithm."""
        return (f"{self.blobs}{algorithm}/" for algorithm in ALGORITHMS)

    def promises_beside(self, blobs: str) -> str:
        """Return the beginning of the keys of promises for those blobs that begin so."""
        return f"{self.own}promises/{blobs[len(self.blobs) :]}"

    def blob_of(self, key: str) -> Digest | None:
        """Return the digest of a blob's key; None for what is no blob."""
        return _digest(_BLOB.fullmatch(key[len(self.blobs) :]))

    def promise_of(self, key: str) -> tuple[Digest, str] | None:
        """Return what is promised by a key, and in which kind."""
        match = _PROMISE.fullmatch(key[len(self.own) + len("promises/") :])
        digest = _digest(match)
        return None if digest is None or match is None else (digest, match["kind"])


def layers(repository: str) -> str:
    return f"{repository}{LAYERS}"


def revisions(repository: str) -> str:
    return f"{repository}{MANIFESTS}revisions/"


def tags(repository: str) -> str:
    return f"{repository}{MANIFESTS}tags/"


def tag_link(folder: str, tag: Tag) -> str:
    return f"{folder}{tag}/current/link"


def tag_index(folder: str, tag: Tag) -> str:
    return f"{folder}{tag}/index/"


def referrers(repository: str, subject: Digest) -> str:
    return f"{repository}_referrers/{subject.algorithm}/{subject.hex}/"


def link(folder: str, digest: Digest) -> str:
    return f"{folder}{digest.algorithm}/{digest.hex}/link"


def media_type(folder: str, digest: Digest) -> str:
    return f"{folder}{digest.algorithm}/{digest.hex}/media-type"


def descriptor(folder: str, digest: Digest) -> str:
    return f"{folder}{digest.algorithm}/{digest.hex}/descriptor"


def linked(folder: str, key: str) -> Digest | None:
    """Return the digest whose link a key of a folder is; None for another object."""
    return _digest(_LINK.fullmatch(key[len(folder) :]))


def _spread(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def _digest(match: re.Match[str] | None) -> Digest | None:
    if match is None:
        return None
    try:
        return Digest.parse(f"{match['algorithm']}:{match['hex']}")
    except DigestInvalid:
        return None
