# SPDX-License-Identifier: Apache-2.0
"""A part in memory takes what it has taken of the budget, however it comes."""

from __future__ import annotations

import tracemalloc

from buildset_registry.store.objects.parts import MemoryPart, PartBudget

SIZE = 20_000


def test_a_part_of_tiny_pieces_takes_little_more_than_its_size() -> None:
    """A client chooses how small its chunks are (RFC 9112, 7.1)."""
    part = MemoryPart(PartBudget(SIZE), SIZE)
    tracemalloc.start()
    try:
        for number in range(SIZE // 2):
            part.add(b"%02d" % (number % 100))  # each an object of its own
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2 * SIZE
    assert (part.size, b"".join(part.body().pieces)[:6]) == (SIZE, b"000102")


def test_the_pieces_of_a_large_upload_are_not_copied() -> None:
    """They come as the server reads them: up to 256 KiB each."""
    part, pieces = MemoryPart(PartBudget(2**20), 2**20), [bytes(2**18) for _number in range(4)]
    for piece in pieces:
        part.add(piece)
    assert all(one is piece for one, piece in zip(part.body().pieces, pieces, strict=True))
