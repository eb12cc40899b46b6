# SPDX-License-Identifier: Apache-2.0
"""The documents of S3: lists, errors, and the one that puts parts together; pure.

They are XML of a known form without attributes that matter, so what is wanted of one is found by
patterns: a list of a thousand objects takes a tenth of the time that a tree of it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
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
_REGIONS = frozenset(
    {
        *(
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "IllegalLocationConstraintException",
        ),
        *("TemporaryRedirect", "InvalidRegion"),
    }
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


def is_passing(answer: _Answer) -> bool:
    """Tell whether another try may help."""
    return code(answer) in _PASSING


def words(answer: _Answer) -> str:
    """Return what an error says, without what the request was."""
    named = code(answer)
    message = " ".join(text_of(answer.content, "Message").split())
    return f"{named}: {message}" if named and message else named


def cure(answer: _Answer, bucket: str, region: str) -> str:
    """Return what to do about an error at the start."""
    named = code(answer)
    if named in _KEYS:
        return "correct accesskey and secretkey"
    if named == "NoSuchBucket" or answer.status == 404:
        return f"make the bucket {bucket}, or correct its name"
    if named == "RequestTimeTooSkewed":
        return "set the clock of this machine"
    if named in _REGIONS or answer.status in (301, 307):
        meant = text_of(answer.content, "Region") or text_of(answer.content, "Endpoint")
        return f"correct region, which is {region}{' and not ' if meant else ''}{meant}"
    if answer.status == 403:
        return f"allow these credentials to list the bucket {bucket} (s3:ListBucket)"
    return "correct regionendpoint"


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


def read_uploads(content: bytes) -> Iterator[tuple[PartUpload, float]]:
    """Yield what is on its way in parts, and when each was begun."""
    for match in _UPLOADS.finditer(content.decode("utf-8", "replace")):
        found = dict(_fields(match[1]))
        yield (
            PartUpload(found.get("Key", ""), found.get("UploadId", "")),
            _time(found.get("Initiated", "")),
        )


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
        _time(found.get("LastModified", "")),
        found.get("ETag", ""),
    )


def _time(text: str) -> float:
    """Return the end of the second in which a time is: headers tell no more, and lists do."""
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return float(int(found.timestamp()) + 1)
    except ValueError:
        return 0.0
