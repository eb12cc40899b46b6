# SPDX-License-Identifier: Apache-2.0
"""Requests that are made all the time, beside what must not disturb them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pulling(get: Callable[[], bytes], blob: bytes, pullers: int) -> Iterator[list[int]]:
    """Pull a blob by several threads; yields the number of pulls, and fails if one is not whole."""
    whole = [0]

    def pull() -> None:
        assert get() == blob
        whole[0] += 1

    with repeating(pull, pullers):
        yield whole


@contextmanager
def repeating(work: Callable[[], object], clients: int) -> Iterator[None]:
    """Do something again and again by several threads; fails if it did so once."""
    done, failures = threading.Event(), list[str]()

    def repeat() -> None:
        while not done.is_set():
            try:
                work()
            except Exception as error:
                failures.append(f"{time.strftime('%X')} {error!r}")

    threads = [threading.Thread(target=repeat) for _number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
