# SPDX-License-Identifier: Apache-2.0
"""What the tests of pull-through push and read, and how."""

from buildset_registry.oci.names import RepositoryName
from buildset_registry.pullthrough.download import BlobStream
from buildset_registry.store.base import StoredBlob

from tests.unit.upstream.lab import BLOB_DIGEST

OTHER = RepositoryName("quay.io/org/other")
OTHER_PATH = f"/v2/org/other/blobs/{BLOB_DIGEST}"
PUSHED = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'


async def read(found: StoredBlob | BlobStream, start: int = 0, end: int | None = None) -> bytes:
    pieces = found.chunks(start, found.size if end is None else end)
    return b"".join([piece async for piece in pieces])
