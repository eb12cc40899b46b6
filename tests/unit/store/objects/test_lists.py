# SPDX-License-Identifier: Apache-2.0
"""A list that is none: what it lacks is not gone, or a collection would remove what is in use."""

from collections.abc import Callable

import pytest
from buildset_registry.store.azure import documents as azure
from buildset_registry.store.gcs import documents as gcs
from buildset_registry.store.objects import documents as s3
from buildset_registry.store.objects.dialect import ObjectFailure
from buildset_registry.store.swift import documents as swift

READERS: dict[str, Callable[[bytes], object]] = {
    "azure": azure.read_page,
    "gcs": gcs.read_page,
    "s3": s3.read_page,
    "swift": swift.read_page,
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>log in</body></html>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>",
        b"<EnumerationResults><Blobs><Blob><Name>a</Name></Blob>",
        b'[{"name": "a", "bytes": 1',
        b'{"items": [{"name": "a"}]}',
        b'["a"]',
    ],
)
@pytest.mark.parametrize("service", list(READERS))
def test_what_is_no_list_is_a_failure(service: str, content: bytes) -> None:
    """Such as a proxy's page with a good status, or one that ends early."""
    with pytest.raises(ObjectFailure, match="something else than a list"):
        READERS[service](content)


def test_a_list_that_goes_on_says_where() -> None:
    """A service that knows the first version of lists only does not."""
    text = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    with pytest.raises(ObjectFailure):
        s3.read_page(text)
