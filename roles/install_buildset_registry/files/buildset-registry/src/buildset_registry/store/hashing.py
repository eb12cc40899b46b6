# SPDX-License-Identifier: Apache-2.0
"""The hash of a file; for worker threads."""

from __future__ import annotations

from pathlib import Path

from buildset_registry.oci.digest import Hasher, hasher

_PIECE = 1024 * 1024


def hash_file(path: Path, algorithm: str) -> Hasher:
    """Return the running hash of a file, so that it can go on."""
    state = hasher(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state
