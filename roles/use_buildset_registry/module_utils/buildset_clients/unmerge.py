# SPDX-License-Identifier: Apache-2.0
"""Taking back what was written into a file that somebody has changed since; pure.

``before`` is what the file was, ``after`` what was made of it, ``current`` what it is now.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

_MISSING = object()


def unmerge(before: Any, after: Any, current: Any) -> Any:
    """Take back from a JSON value what ``after`` has over ``before``."""
    if after == before:
        return current
    if current == after:
        return before
    if isinstance(after, dict) and isinstance(current, dict):
        return _objects(before if isinstance(before, dict) else {}, after, current)
    if isinstance(after, list) and isinstance(current, list):
        kept = before if isinstance(before, list) else []
        return [item for item in current if item in kept or item not in after]
    return current


def _objects(
    before: dict[str, Any], after: dict[str, Any], current: dict[str, Any]
) -> dict[str, Any]:
    result = {}
    for key, value in current.items():
        old, new = before.get(key, _MISSING), after.get(key, _MISSING)
        left = value if new is _MISSING else unmerge(old, new, value)
        made = old is _MISSING and new is not _MISSING
        if left is not _MISSING and not (made and left in ({}, [])):
            result[key] = left
    return result


def unmerge_text(before: str, after: str, current: str) -> str | None:
    """Take back lines; nothing where those lines themselves were changed."""
    old, new, now = (text.splitlines(keepends=True) for text in (before, after, current))
    place: dict[int, int] = {}
    for block in SequenceMatcher(None, new, now, autojunk=False).get_matching_blocks():
        place.update({block.a + i: block.b + i for i in range(block.size)})
    changes = SequenceMatcher(None, new, old, autojunk=False).get_opcodes()
    for _tag, start, end, first, last in reversed([one for one in changes if one[0] != "equal"]):
        where = [place.get(index) for index in range(start, end)]
        begin = where[0] if where else place.get(start - 1, -2 if start else -1)
        if begin is None or where != list(range(begin, begin + len(where))):
            return None
        if not where:
            if begin == -2:
                return None
            begin += 1
        now[begin : begin + len(where)] = old[first:last]
    return "".join(now)
