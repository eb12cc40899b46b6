# SPDX-License-Identifier: Apache-2.0
"""Edits of one file each: pure functions from what it holds to what it is to hold, and back.

A change is taken back from three texts: ``before`` is what the file was, ``after`` what was made of
it, ``current`` what it is now, since somebody may have changed it meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Callable

from .node import Account

#: Kinds of files, which say how a change is taken back.
OWN, JSON, TEXT = "own", "json", "text"

Rewrite = Callable[["bytes | None"], bytes]

_MISSING = object()


@dataclass(frozen=True)
class Edit:
    """A file, and what is made of its content."""

    client: str
    path: str
    kind: str
    rewrite: Rewrite
    mode: int = 0o644
    secret: bool = False
    """Whether it holds the password."""

    account: Account | None = None
    """The user with whose rights it is written; the present one where there is none."""

    action: str = ""
    """The client's daemon is to ``reload`` or ``restart`` for it, or to do nothing."""


def own(client: str, path: str, content: bytes, **rest: Any) -> Edit:
    """A file that is ours as a whole."""
    return Edit(client, path, OWN, lambda before: content, **rest)


def united(edits: Iterable[Edit], place: Callable[[Edit], str]) -> dict[str, Edit]:
    """Return edits by the place of their file; those of one file, which links may lead to by
    several names, are done one after the other."""
    found: dict[str, Edit] = {}
    for edit in edits:
        where = place(edit)
        found[where] = _both(found[where], edit) if where in found else edit
    return found


def _both(first: Edit, second: Edit) -> Edit:
    def rewrite(before: bytes | None) -> bytes:
        return second.rewrite(first.rewrite(before))

    return replace(
        first,
        kind=first.kind if first.kind == second.kind else OWN,
        rewrite=rewrite,
        mode=first.mode & second.mode,
        secret=first.secret or second.secret,
        action=max(first.action, second.action),  # a restart is more than a reload
    )


def taken_back(kind: str, before: bytes | None, after: bytes, current: bytes) -> bytes | None:
    """Return a file without our part, where somebody has changed it since; ValueError if it
    cannot be told apart."""
    if kind == OWN:
        return before
    if kind == JSON:
        return _json(before, after, current)
    parts = (before or b"", after, current)
    text = unmerge_text(*(part.decode("utf-8", "surrogateescape") for part in parts))
    if text is None:
        raise ValueError("our lines were changed")
    left = text.encode("utf-8", "surrogateescape")
    return left if left or before is not None else None


def _json(before: bytes | None, after: bytes, current: bytes) -> bytes | None:
    old, new, now = (_object(part) for part in (before, after, current))
    left = unmerge(old, new, now)
    if left == old:
        return before
    return json.dumps(left, indent=2, ensure_ascii=False).encode() + b"\n"


def _object(content: bytes | None) -> Any:
    """Read JSON; a file that is missing or white space only has nothing in it."""
    text = (content or b"").decode("utf-8-sig")
    return json.loads(text) if text.strip() else {}


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
    # What had to go for ours, and nobody has put there since.
    gone = {key: value for key, value in before.items() if key not in {**after, **current}}
    return {**result, **gone}


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
