# SPDX-License-Identifier: Apache-2.0
"""The documents of buckets that speak as S3 does: lists, errors, what puts parts together; pure.

They are XML of a known form without attributes that matter, so what is wanted of one is found by
patterns: a list of a thousand objects takes a tenth of the time that a tree of it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape, unescape
from typing import Protocol

from buildset_registry.store.objects.dialect import (
    NO_LIST,
    ObjectFailure,
    ObjectPage,
    ObjectPart,
    ObjectState,
    PartUpload,
)
from buildset_registry.store.objects.times import end_of_second

#: The error where there is no bucket: that tells nothing of an object.
NO_BUCKET = "NoSuchBucket"
_CONTENTS = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_PREFIXES = re.compile(r"<CommonPrefixes>\s*<Prefix>(.*?)</Prefix>", re.DOTALL)
_UPLOADS = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_FIELD = re.compile(r"<(Key|Size|ETag|LastModified|UploadId|Initiated)>(.*?)</\1>", re.DOTALL)
#: Errors after which the same request may succeed, whatever the status.
_PASSING = frozenset(
    {
        *("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted"),
        *("ConditionalRequestConflict", "Throttling", "RequestLimitExceeded", "TooManyRequests"),
    }
)
_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "Unauthorized"}
)


class _Answer(Protocol):
    """What is looked at of an answer."""

    @property
    def status(self) -> int:
        """Return its status."""

    @property
    def content(self) -> bytes:
        """Return its body."""


def text_of(content: bytes, name: str) -> str:
    """Return the text of the first element of a name; empty where there is none."""
    match = re.search(rf"<{name}>([^<]*)</{name}>".encode(), content)
    return unescape(match[1].decode("utf-8", "replace")) if match else ""


def code(answer: _Answer) -> str:
    """Return the code of an error; empty where there is none."""
    return text_of(answer.content, "Code") if b"<Error>" in answer.content else ""


def is_error(answer: _Answer) -> bool:
    """Tell whether an answer with a good status has an error inside, as one to a copy may."""
    return bool(code(answer))


def is_absent(answer: _Answer) -> bool:
    """Tell whether the service says that there is no such object, or no such upload.

    A proxy without its service says 404, too: what is no word of the service's tells of nothing.
    """
    return answer.status == 404 and code(answer) not in ("", NO_BUCKET)


def is_passing(answer: _Answer) -> bool:
    """Tell whether another try may help."""
    return code(answer) in _PASSING


def is_of_keys(answer: _Answer) -> bool:
    """Tell whether an error says that the credentials are wrong."""
    return code(answer) in _KEYS


def words(answer: _Answer) -> str:
    """Return what an error says, without what the request was."""
    named = code(answer)
    message = " ".join(text_of(answer.content, "Message").split())
    return f"{named}: {message}" if named and message else named


def read_page(content: bytes) -> tuple[ObjectPage, str]:
    """Return a part of a list, and the word by which the next one is asked for.

    Less than all of it is a failure: what no list has, a collection takes for gone.
    """
    if b"</ListBucketResult>" not in content:
        raise ObjectFailure(NO_LIST)
    text = content.decode("utf-8", "replace")
    objects = [_object(dict(_fields(match[1]))) for match in _CONTENTS.finditer(text)]
    prefixes = [unescape(match[1]) for match in _PREFIXES.finditer(text)]
    more = text_of(content, "IsTruncated") == "true"
    following = text_of(content, "NextContinuationToken") if more else ""
    if more and not following:
        raise ObjectFailure(NO_LIST)
    return ObjectPage(objects, prefixes), following


def read_uploads(content: bytes) -> tuple[list[tuple[PartUpload, float]], Mapping[str, str]]:
    """Return what is on its way in parts and when each was begun, and how to ask for more."""
    if b"</ListMultipartUploadsResult>" not in content:
        raise ObjectFailure(NO_LIST)
    uploads = [
        (
            PartUpload(found.get("Key", ""), found.get("UploadId", "")),
            end_of_second(found.get("Initiated", "")),
        )
        for match in _UPLOADS.finditer(content.decode("utf-8", "replace"))
        for found in (dict(_fields(match[1])),)
    ]
    if text_of(content, "IsTruncated") != "true":
        return uploads, {}
    names = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
    told = ((ours, text_of(content, theirs)) for ours, theirs in names.items())
    return uploads, {name: value for name, value in told if value}


def complete(parts: Sequence[ObjectPart]) -> bytes:
    """Return the document that puts parts together."""
    inner = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.tag)}</ETag></Part>"
        for part in parts
    )
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{inner}</CompleteMultipartUpload>'.encode()


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for match in _FIELD.finditer(text):
        yield match[1], unescape(match[2])


def _object(found: dict[str, str]) -> ObjectState:
    return ObjectState(
        found.get("Key", ""),
        int(found.get("Size") or 0),
        end_of_second(found.get("LastModified", "")),
        found.get("ETag", ""),
    )
