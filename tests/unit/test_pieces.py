# SPDX-License-Identifier: Apache-2.0
"""Content in pieces: small ones are put together, large ones are not copied."""

from __future__ import annotations

from buildset_registry.pieces import Pieces
from hypothesis import given, settings
from hypothesis import strategies as st


def test_large_pieces_are_kept_as_they_are() -> None:
    """So a large upload is copied by nobody."""
    pieces, large = Pieces(), [bytes([number]) * 300_000 for number in range(4)]
    for piece in large:
        pieces.add(piece)
    assert all(one is piece for one, piece in zip(pieces.all(), large, strict=True))
    alone = Pieces()
    alone.add(large[0])
    assert alone.whole() is large[0]


def test_small_pieces_are_put_together() -> None:
    """Whatever a client sends, there is no object for each of its chunks."""
    pieces = Pieces()
    for _number in range(100_000):
        pieces.add(b"ab")
    assert pieces.size == 200_000
    assert len(pieces.all()) < 10


def test_what_was_returned_stays() -> None:
    """A body may be asked for again while more of the next one comes."""
    pieces = Pieces()
    pieces.add(b"ab")
    before = pieces.all()
    pieces.add(b"cd")
    assert (before, pieces.all()) == ((b"ab",), (b"abcd",))


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0, 1, 2, 4095, 4096, 70_000]), max_size=12))
def test_nothing_is_lost_and_all_is_in_order(sizes: list[int]) -> None:
    """Pieces of any sizes are the content that came."""
    pieces = Pieces()
    for number, size in enumerate(sizes):
        pieces.add(bytes([number]) * size)
    whole = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert (pieces.whole(), pieces.size) == (whole, len(whole))
    assert all(pieces.all())
