# SPDX-License-Identifier: Apache-2.0
"""A request takes a short way: few functions, few files, few calls down to the blob's file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.sources import TOP

#: Each kind of request must stay below so many functions and files of the package.
LIMITS = {
    # 80 at first, and two to know a host of IPv6 as one client; so below. Two more count what a
    # client has under way, in one more file.
    "PATCH of an upload": (84, 24),
    "GET of a manifest by tag, pulled through": (70, 26),
    # 192 at first, and two to take a place among the fetches and to give it back.
    "miss of a blob": (198, 42),
}
DEEPEST = 8
BLOBS = ("GET of a blob, pushed", "GET of a blob, pulled through")
Counts = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def counts() -> Counts:
    """Count in a process of its own, which the profiler slows down."""
    words = [sys.executable, "tools/walk.py", "--json"]
    done = subprocess.run(words, cwd=TOP, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("request_title", LIMITS)
def test_a_request_touches_few_functions_and_files(counts: Counts, request_title: str) -> None:
    """Fewer than when the tree was measured first, but for what it has learned to do since."""
    functions, files = LIMITS[request_title]
    assert counts[request_title]["functions"] < functions
    assert counts[request_title]["files"] < files


@pytest.mark.parametrize("request_title", BLOBS)
def test_a_blob_is_few_calls_from_its_file(counts: Counts, request_title: str) -> None:
    """Eight at most, with ``App.__call__`` and the one that looks for the file."""
    assert 0 < counts[request_title]["depth"] <= DEEPEST
