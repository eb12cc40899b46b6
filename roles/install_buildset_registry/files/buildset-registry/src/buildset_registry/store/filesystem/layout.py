# SPDX-License-Identifier: Apache-2.0
"""The storage tree, and the only functions that build its paths.

The layout is distribution's (``registry:2``), so that its data directories can be served as they
are and it can serve ours. Folders that begin with ``_`` inside a repository are not repositories to
it, so what its layout lacks stands in ``_referrers`` and ``_upstream``::

    <storage>/
    ├── lock                                        held by the server that uses the folder
    ├── control                                     socket of that server, for other commands
    ├── ports                                       socket of who starts the next one, meanwhile
    ├── documents/<topic>/<name>                    what is kept beside images
    ├── log/                                        changes that may not be on disk yet (wal.py)
    ├── tmp/                                        writes on their way; emptied at start-up
    └── docker/registry/v2/
        ├── blobs/<algorithm>/<2 hex>/<hex>/data
        └── repositories/<name>/
            ├── _layers/<algorithm>/<hex>/link              text: the digest
            ├── _manifests/
            │   ├── revisions/<algorithm>/<hex>/link        text: the digest
            │   ├── revisions/<algorithm>/<hex>/media-type  where the bytes do not tell it
            │   └── tags/<tag>/
            │       ├── current/link                        text: the digest
            │       └── index/<algorithm>/<hex>/link        all digests the tag ever had
            ├── _uploads/<uuid>/{data,startedat}
            ├── _referrers/<algorithm>/<hex>/<algorithm>/<hex>/       subject, then referrer
            │   ├── link                                text: the digest
            │   └── descriptor                          JSON: what a list of referrers says of it
            └── _upstream/                          what was pulled through
                ├── _layers/...                     the same again
                ├── _manifests/...                  tags' mtime: when upstream was last asked
                └── _referrers/...
"""

from __future__ import annotations

from pathlib import Path

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId

#: Each path is made by one ``/`` of one text: a ``/`` of pathlib costs 3 microseconds, and a pull
#: asks for ten paths.
_TOP = "docker/registry/v2"
UPSTREAM = "_upstream"
MANIFESTS = "_manifests"
LAYERS = "_layers"
UPLOADS = "_uploads"


def lock(storage: Path) -> Path:
    return storage / "lock"


def control(storage: Path) -> Path:
    return storage / "control"


def documents(storage: Path, topic: str) -> Path:
    return storage / "documents" / topic


def log(storage: Path) -> Path:
    return storage / "log"


def temporary(storage: Path) -> Path:
    return storage / "tmp"


def top(storage: Path) -> Path:
    return storage / _TOP


def repositories(storage: Path) -> Path:
    return storage / f"{_TOP}/repositories"


def repository(storage: Path, name: RepositoryName) -> Path:
    return storage / f"{_TOP}/repositories/{name}"


def upstream(repository: Path) -> Path:
    return repository / UPSTREAM


def blobs(storage: Path) -> Path:
    return storage / f"{_TOP}/blobs"


def blob(storage: Path, digest: Digest) -> Path:
    return Path(blob_name(f"{storage}/{_TOP}/blobs", digest))


def blob_name(blobs: str, digest: Digest) -> str:
    """Return a blob's path as text, for requests: making a ``Path`` takes as long as stat(2)."""
    return f"{blobs}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def upload(repository: Path, upload_id: UploadId) -> Path:
    return repository / f"{UPLOADS}/{upload_id}"


def layers(repository: Path) -> Path:
    return repository / LAYERS


def revisions(repository: Path) -> Path:
    return repository / f"{MANIFESTS}/revisions"


def tags(repository: Path) -> Path:
    return repository / f"{MANIFESTS}/tags"


def tag_link_name(tags: str, tag: Tag) -> str:
    """Return the path of a tag's link as text."""
    return f"{tags}/{tag}/current/link"


def tag_index_name(tags: str, tag: Tag) -> str:
    """Return the path of the folder of all that a tag ever was, as text."""
    return f"{tags}/{tag}/index"


def referrers(repository: Path, subject: Digest) -> Path:
    return repository / f"_referrers/{subject.algorithm}/{subject.hex}"


def link(folder: Path, digest: Digest) -> Path:
    """Return the link file of ``digest`` in one of the folders above that hold links."""
    return Path(link_name(str(folder), digest))


def link_name(folder: str, digest: Digest) -> str:
    """Return the path of a link as text."""
    return f"{folder}/{digest.algorithm}/{digest.hex}/link"


def descriptor_name(folder: str, digest: Digest) -> str:
    """Return the path of what a list says of a referrer, as text."""
    return f"{folder}/{digest.algorithm}/{digest.hex}/descriptor"


def media_type_name(folder: str, digest: Digest) -> str:
    """Return the path of a media type as text."""
    return f"{folder}/{digest.algorithm}/{digest.hex}/media-type"
