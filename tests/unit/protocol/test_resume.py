# SPDX-License-Identifier: Apache-2.0
"""Where in a blob the bytes of an answer stand."""

import pytest
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.resume import PartialContent, length, received, requested


def test_a_whole_blob_is_asked_for_without_a_range() -> None:
    """Caches and signed URLs know the plain request best."""
    assert requested(0) == {}
    assert requested(7) == {"Range": "bytes=7-"}


@pytest.mark.parametrize(
    ("status", "headers", "part"),
    [
        (200, {"Content-Length": "9"}, PartialContent(5, 9)),
        (200, {}, PartialContent(5, None)),
        (206, {"Content-Range": "bytes 5-8/9"}, PartialContent(0, 9)),
        (206, {"Content-Range": "bytes 5-8/*"}, PartialContent(0, None)),
        (416, {"Content-Range": "bytes */5"}, PartialContent(0, 5, empty=True)),
    ],
)
def test_an_answer_says_where_it_stands(
    status: int, headers: dict[str, str], part: PartialContent
) -> None:
    """The rest, everything although the rest was asked for, or nothing because that was all."""
    assert received(status, headers, 5) == part


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {}),
        (206, {"Content-Range": "bytes 4-8/9"}),
        (206, {"Content-Range": "bytes */9"}),
        (206, {"Content-Range": "lines 5-8/9"}),
        (416, {}),
        (416, {"Content-Range": "bytes */4"}),
    ],
)
def test_other_bytes_than_those_asked_for_are_refused(status: int, headers: dict[str, str]) -> None:
    """They would be written at the wrong place."""
    with pytest.raises(
        UpstreamError, match=f"answers {status} to a request for the bytes from 5 on"
    ):
        received(status, headers, 5)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("12", 12), ("-1", None), ("", None)])
def test_a_length_is_a_number(text: str, size: int | None) -> None:
    """Anything else is as if it was not told."""
    assert length({"Content-Length": text}) == size
