# SPDX-License-Identifier: Apache-2.0
"""Ranges of downloads and of uploads."""

import pytest
from buildset_registry.errors import BlobUploadInvalid, RangeNotSatisfiable
from buildset_registry.http.ranges import content_range, parse_chunk, parse_ranges, upload_range
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", [(0, 10)]),
        ("bytes=2-4", [(2, 5)]),
        ("Bytes = 2-400", [(2, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-30", [(0, 10)]),
        ("bytes= 9-9 ", [(9, 10)]),
        ("bytes=1-2,4-5", [(1, 3), (4, 6)]),
        ("bytes=4-5, 1-2,,-1", [(4, 6), (1, 3), (9, 10)]),
        ("bytes=1-2,20-30", [(1, 3)]),
    ],
)
def test_ranges_are_spans_in_the_order_asked_for(
    header: str, expected: list[tuple[int, int]]
) -> None:
    """Empty elements of the list are allowed; what lies outside is left out."""
    assert parse_ranges(header, 10) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes=-",
        "bytes=1-2,x",
        "bytes=1",
        "items=1-2",
        "bytes=\u0661-\u0662",
        f"bytes={'9' * 30}-",
        "bytes=0-7,4-9",
        "bytes=0-1,1-2",
        "bytes=5-6,0-0,-4",
        "bytes=" + ",".join("1-1" for _ in range(1025)),
        "bytes=" + " " * 50_000 + "1-2",
    ],
)
def test_what_is_not_understood_or_excessive_means_the_whole(header: str) -> None:
    """RFC 9110 lets a server ignore it; ranges that overlap would send more than there is."""
    assert parse_ranges(header, 10) == []


def test_any_range_of_an_empty_blob_means_the_whole() -> None:
    """Clients that go on with a download send one always; there is no part to send."""
    assert [parse_ranges(header, 0) for header in ("bytes=0-", "bytes=0-9", "bytes=-1")] == [[]] * 3


@pytest.mark.parametrize(
    "header",
    ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=10-,20-", "bytes=4-2", "bytes=1-2,5-0"],
)
def test_a_range_outside_or_backwards_tells_the_size(header: str) -> None:
    """The client learns how much there is."""
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_ranges(header, 10)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=5),
    st.integers(1, 100),
)
def test_ranges_never_leave_the_content(ranges: list[tuple[int, int]], size: int) -> None:
    """Whatever is asked, what is sent lies inside, is not empty and not more than the whole."""
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    try:
        spans = parse_ranges(header, size)
    except RangeNotSatisfiable:
        assert any(first > last for first, last in ranges) or all(
            first >= size for first, _ in ranges
        )
        return
    assert all(0 <= start < end <= size for start, end in spans)
    assert len(spans) == 1 or sum(end - start for start, end in spans) <= size


def test_the_range_of_an_answer_includes_its_end() -> None:
    """HTTP counts the last byte, we count what follows it."""
    assert content_range(2, 5, 10) == "bytes 2-4/10"


def test_the_range_of_an_upload() -> None:
    """Nothing and one byte look the same, by the specification."""
    assert [upload_range(size) for size in (0, 1, 10)] == ["0-0", "0-0", "0-9"]


@pytest.mark.parametrize("header", ["3-7", "bytes 3-7/*", "bytes=3-7/10", " 3-7 "])
def test_a_chunk_is_its_start_and_its_length(header: str) -> None:
    """Some clients write the unit and the whole size, as downloads do."""
    assert parse_chunk(header) == (3, 5)


@pytest.mark.parametrize("header", ["", "7-3", "x", "3-", "-3", "1-" + "9" * 99])
def test_a_chunk_that_is_no_range_is_refused(header: str) -> None:
    """The message shows what was sent."""
    with pytest.raises(BlobUploadInvalid, match="Content-Range"):
        parse_chunk(header)
