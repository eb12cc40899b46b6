# SPDX-License-Identifier: Apache-2.0
"""The part of a disk that stays free, whatever is written there."""

from __future__ import annotations

from buildset_registry.errors import StorageFull

_MIB = 1024 * 1024
#: What stays free where nothing else is said: so much, or this part of a small disk.
_FLOOR = 256 * _MIB
_FLOOR_PART = 20


def floor_of(total: int, wanted: int | None) -> int:
    """Return how many bytes stay free of a disk of so many; ``wanted``, where that is said."""
    return min(_FLOOR, total // _FLOOR_PART) if wanted is None else wanted


def full(disk: str, floor: int, advice: str) -> StorageFull:
    """Return the refusal where no more than the floor is left."""
    return StorageFull(
        f"{disk} is full: {floor // _MIB} MiB of it stay free (limits.free_bytes); {advice}"
    )
