# SPDX-License-Identifier: Apache-2.0
"""When an object was changed: a list tells the same as the object itself, or nothing expires."""

import json
from collections.abc import Callable

import pytest
from buildset_registry.store.azure import documents as azure
from buildset_registry.store.gcs import documents as gcs
from buildset_registry.store.objects import documents as s3
from buildset_registry.store.objects.connection import ServiceAnswer
from buildset_registry.store.objects.dialect import ObjectFailure, ObjectState
from buildset_registry.store.swift import documents as swift

#: The header for a time within a second; Swift's is the next one (RFC 9110, 8.8.2).
SECOND, NEXT = "Sat, 28 Nov 2026 10:00:00 GMT", "Sat, 28 Nov 2026 10:00:01 GMT"


def of_s3(time: str = "2026-11-28T10:00:00.250Z") -> ObjectState:
    inner = f"<Key>a</Key><LastModified>{time}</LastModified>"
    text = f"<ListBucketResult><Contents>{inner}</Contents></ListBucketResult>"
    return s3.read_page(text.encode())[0].objects[0]


def of_azure(time: str = SECOND) -> ObjectState:
    inner = f"<Blob><Name>a</Name><Last-Modified>{time}</Last-Modified></Blob>"
    text = f"<EnumerationResults><Blobs>{inner}</Blobs></EnumerationResults>"
    return azure.read_page(text.encode())[0].objects[0]


def of_gcs(time: str = "2026-11-28T10:00:00.250Z") -> ObjectState:
    one = {"name": "a", "updated": time, "generation": "1"}
    return gcs.read_page(json.dumps({"items": [one]}).encode())[0].objects[0]


def of_swift(time: str = "2026-11-28T10:00:00.250000") -> ObjectState:
    one = {"name": "a", "bytes": 1, "hash": "", "last_modified": time}
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


@pytest.mark.parametrize("fraction", ["", ".2", ".25", ".250", ".2500001", ".250000000001"])
@pytest.mark.parametrize(("listed", "zone"), [(of_s3, "Z"), (of_gcs, "Z"), (of_swift, "")])
def test_a_time_is_read_however_exact_it_is(
    listed: Callable[[str], ObjectState], zone: str, fraction: str
) -> None:
    """Services write fractions of any number of digits, or none."""
    told = listed(f"2026-11-28T10:00:00{fraction}{zone}").changed
    whole = ServiceAnswer(200, {"Last-Modified": SECOND}, b"").changed
    assert told == whole + (1 if listed is of_swift and fraction else 0)


@pytest.mark.parametrize("time", ["", "yesterday"])
@pytest.mark.parametrize("listed", [of_s3, of_azure, of_gcs, of_swift])
def test_a_time_that_cannot_be_read_is_a_failure(
    listed: Callable[[str], ObjectState], time: str
) -> None:
    """Of what is taken for old, a collection removes promises and content."""
    with pytest.raises(ObjectFailure, match=time or "no time"):
        listed(time)


@pytest.mark.parametrize("begun", ["", "<Initiated>yesterday</Initiated>"])
def test_nor_are_parts_old_that_do_not_say_when_they_were_begun(begun: str) -> None:
    """They would be aborted while they arrive."""
    inner = f"<Upload><Key>a</Key><UploadId>1</UploadId>{begun}</Upload>"
    text = f"<ListMultipartUploadsResult>{inner}</ListMultipartUploadsResult>"
    with pytest.raises(ObjectFailure, match="time"):
        s3.read_uploads(text.encode())
