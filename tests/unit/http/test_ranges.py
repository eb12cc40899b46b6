# SPDX-License-Identifier: Apache-2.0
"""Ranges of downloads and of uploads."""

import pytest
from buildset_registry.errors import BlobUploadInvalid, RangeNotSatisfiable
from buildset_registry.http.ranges import content_range, parse_chunk, parse_range, upload_range
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", (0, 10)),
        ("bytes=2-4", (2, 5)),
        ("Bytes=2-400", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes= 9-9", (9, 10)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=1-2,4-5", None),
        ("items=1-2", None),
    ],
)
def test_one_range_is_understood_and_anything_else_means_the_whole(header, expected):
    """RFC 9110 lets a server ignore what it does not understand."""
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_tells_the_size(header):
    """The client learns how much there is."""
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, 10)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
def test_a_range_never_leaves_the_content(first, last, size):
    """Whatever is asked, what is sent lies inside and is not empty."""
    try:
        found = parse_range(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


def test_the_range_of_an_answer_includes_its_end():
    """HTTP counts the last byte, we count what follows it."""
    assert content_range(2, 5, 10) == "bytes 2-4/10"


def test_the_range_of_an_upload():
    """Nothing and one byte look the same, by the specification."""
    assert [upload_range(size) for size in (0, 1, 10)] == ["0-0", "0-0", "0-9"]


@pytest.mark.parametrize("header", ["3-7", "bytes 3-7/*", "bytes=3-7/10", " 3-7 "])
def test_a_chunk_is_its_start_and_its_length(header):
    """Some clients write the unit and the whole size, as downloads do."""
    assert parse_chunk(header) == (3, 5)


@pytest.mark.parametrize("header", ["", "7-3", "x", "3-", "-3"])
def test_a_chunk_that_is_no_range_is_refused(header):
    """The message shows what was sent."""
    with pytest.raises(BlobUploadInvalid, match="Content-Range"):
        parse_chunk(header)
