# SPDX-License-Identifier: Apache-2.0
"""The hash of what arrives, in a thread of its own."""

from __future__ import annotations

import hashlib
import threading

import pytest
from buildset_registry.store.filesystem.hashing import Hashers


async def test_a_thread_goes_on_with_a_hash_in_the_order_of_the_pieces() -> None:
    pieces = [bytes([number]) * 100_000 for number in range(64)]
    state = hashlib.sha256(b"before")
    hashing = Hashers(1).begin(state)
    assert hashing is not None
    for piece in pieces:
        await hashing.update(piece)
    await hashing.finish()
    assert state.hexdigest() == hashlib.sha256(b"before" + b"".join(pieces)).hexdigest()


async def test_no_more_threads_hash_than_allowed() -> None:
    hashers = Hashers(2)
    begun = [hashers.begin(hashlib.sha256()) for _number in range(3)]
    assert [one is None for one in begun] == [False, False, True]
    for one in filter(None, begun):
        await one.finish()
    again = hashers.begin(hashlib.sha256())
    assert again is not None
    await again.finish()


async def test_a_system_without_threads_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hashers = Hashers(1)
    assert hashers.begin(hashlib.sha256()) is None
    monkeypatch.undo()
    hashing = hashers.begin(hashlib.sha256())
    assert hashing is not None
    await hashing.finish()
