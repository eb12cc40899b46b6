# SPDX-License-Identifier: Apache-2.0
"""What is to become of one file: pure functions from what it holds to what it is to hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable

from . import unmerge
from .node import Account

#: Kinds of files, which say how a change is taken back.
OWN, JSON, TEXT = "own", "json", "text"

Change = Callable[["bytes | None"], bytes]


@dataclass(frozen=True)
class Edit:
    """A file, and what is made of its content."""

    client: str
    path: str
    kind: str
    change: Change
    mode: int = 0o644
    secret: bool = False
    """Whether it holds the password."""

    account: Account | None = None
    """Whose rights it is written with; the present user's where it is nobody else's."""

    action: str = ""
    """What the client's daemon needs for it: ``reload`` or ``restart``."""


def own(client: str, path: str, content: bytes, **rest: Any) -> Edit:
    """A file that is ours as a whole."""
    return Edit(client, path, OWN, lambda before: content, **rest)


def taken_back(kind: str, before: bytes | None, after: bytes, current: bytes) -> bytes | None:
    """Return a file without our part, where somebody has changed it since; ValueError if it
    cannot be told apart."""
    if kind == OWN:
        return before
    if kind == JSON:
        return _json(before, after, current)
    text = unmerge.unmerge_text(*(part.decode() for part in (before or b"", after, current)))
    if text is None:
        raise ValueError("our lines were changed")
    return text.encode() if text or before is not None else None


def _json(before: bytes | None, after: bytes, current: bytes) -> bytes | None:
    old, new, now = (json.loads(part or b"{}") for part in (before, after, current))
    left = unmerge.unmerge(old, new, now)
    if not left and before is None:
        return None
    return json.dumps(left, indent=2, ensure_ascii=False).encode() + b"\n"
