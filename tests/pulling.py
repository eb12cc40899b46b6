# SPDX-License-Identifier: Apache-2.0
"""Pulls that run all the time, beside what must not disturb them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pulling(get: Callable[[], bytes], blob: bytes, pullers: int) -> Iterator[list[int]]:
    """Pull a blob by several threads; yields the number of pulls, and fails if one is not whole."""
    done, whole, failures = threading.Event(), [0], []

    def pull() -> None:
        while not done.is_set():
            try:
                assert get() == blob
                whole[0] += 1
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=pull) for _number in range(pullers)]
    for thread in threads:
        thread.start()
    try:
        yield whole
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
