# SPDX-License-Identifier: Apache-2.0
"""When an object was changed: a list tells the same as the object itself, or nothing expires."""

import json
from collections.abc import Callable

import pytest
from buildset_registry.store.azure import documents as azure
from buildset_registry.store.gcs import documents as gcs
from buildset_registry.store.objects import documents as s3
from buildset_registry.store.objects.connection import ServiceAnswer
from buildset_registry.store.objects.dialect import ObjectState
from buildset_registry.store.swift import documents as swift

#: The header for a time within a second; Swift's is the next one (RFC 9110, 8.8.2).
SECOND, NEXT = "Sat, 28 Nov 2026 10:00:00 GMT", "Sat, 28 Nov 2026 10:00:01 GMT"


def of_s3() -> ObjectState:
    inner = "<Key>a</Key><LastModified>2026-11-28T10:00:00.250Z</LastModified>"
    text = f"<ListBucketResult><Contents>{inner}</Contents></ListBucketResult>"
    return s3.read_page(text.encode())[0].objects[0]


def of_azure() -> ObjectState:
    inner = f"<Blob><Name>a</Name><Last-Modified>{SECOND}</Last-Modified></Blob>"
    text = f"<EnumerationResults><Blobs>{inner}</Blobs></EnumerationResults>"
    return azure.read_page(text.encode())[0].objects[0]


def of_gcs() -> ObjectState:
    one = {"name": "a", "updated": "2026-11-28T10:00:00.250Z", "generation": "1"}
    return gcs.read_page(json.dumps({"items": [one]}).encode())[0].objects[0]


def of_swift() -> ObjectState:
    one = {"name": "a", "bytes": 1, "hash": "", "last_modified": "2026-11-28T10:00:00.250000"}
    tree = [{**one, "content_type": "application/octet-stream"}]
    return swift.read_page(json.dumps(tree).encode()).page.objects[0]


@pytest.mark.parametrize(
    ("listed", "header"),
    [(of_s3, SECOND), (of_azure, SECOND), (of_gcs, SECOND), (of_swift, NEXT)],
)
def test_a_list_tells_the_time_of_the_object(
    listed: Callable[[], ObjectState], header: str
) -> None:
    """A collection takes the time of a list, and looks whether the object was changed since."""
    told = ServiceAnswer(200, {"Last-Modified": header}, b"").changed
    assert listed().changed == told
