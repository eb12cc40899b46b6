# SPDX-License-Identifier: Apache-2.0
"""What may go, as plain functions of what is there."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from buildset_registry.oci.digest import Digest

_DIGEST = re.compile(rb"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})(?![a-f0-9])")

#: A digest in a third of the room: the algorithms differ in length.
Key = bytes


def key(digest: Digest) -> Key:
    """Return what stands for a digest in large sets."""
    return bytes.fromhex(digest.hex)


def mentioned(raw: bytes) -> set[Digest]:
    """Return every digest that a manifest mentions, whatever its type and wherever it stands.

    So nothing goes that a manifest of a type that we do not know needs, nor what the schema 1
    manifests of an old data directory list.
    """
    if b"\\u" in raw:  # letters may be written as numbers in JSON (RFC 8259, 7)
        with contextlib.suppress(ValueError, RecursionError):
            raw += json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace")
    return {Digest.parse(found.decode()) for found in _DIGEST.findall(raw)}


@dataclass(frozen=True, slots=True)
class Node:
    """A manifest of a repository: what it lists, what it refers to, when it was last pushed."""

    children: tuple[Digest, ...]
    subject: Digest | None
    used: float


def expired(
    nodes: Mapping[Digest, Node],
    tagged: Collection[Digest],
    untagged_before: float | None,
    referrers_before: float,
) -> dict[Digest, str]:
    """Return the manifests that nothing holds any more, and why.

    A tag holds a manifest, an index what it lists, a subject its referrers. What nothing holds
    goes if it is older than ``untagged_before``, never where that is None; a referrer whose
    subject is not there goes if it is older than ``referrers_before``: its subject may be on its
    way.
    """
    referrers: dict[Digest, list[Digest]] = {}
    for digest, node in nodes.items():
        if node.subject is not None:
            referrers.setdefault(node.subject, []).append(digest)
    waiting = [digest for digest in tagged if digest in nodes]
    for digest, node in nodes.items():
        before = untagged_before if node.subject is None else referrers_before
        if before is None or node.used >= before:
            waiting.append(digest)
    kept = set()
    while waiting:
        digest = waiting.pop()
        if digest in kept or digest not in nodes:
            continue
        kept.add(digest)
        waiting += nodes[digest].children
        waiting += referrers.get(digest, ())
    return {
        digest: "untagged" if node.subject is None else "its subject is gone"
        for digest, node in nodes.items()
        if digest not in kept
    }


@dataclass(frozen=True, slots=True)
class Unit:
    """Something of the cache that goes as a whole: a manifest with its layers, or a layer."""

    name: str
    """The repository."""

    digest: Digest
    layers: tuple[Digest, ...]
    children: tuple[Digest, ...]
    subject: Digest | None
    used: float
    """When it, or a layer of it, was last used."""

    @property
    def keys(self) -> Iterator[Key]:
        """What it holds."""
        return map(key, {self.digest, *self.layers})


def evictions(
    units: Iterable[Unit], sizes: Mapping[Key, int], limit: int, used_before: float
) -> list[Unit]:
    """Return what has to go, the longest unused first, until ``sizes`` add up to ``limit``.

    Content counts once however many units hold it, and goes with the last of them; what
    ``sizes`` leaves out costs nothing (a job pushed it, too). What was used since
    ``used_before`` may be in the middle of a pull, and stays.
    """
    units = _with_parents(list(units))
    holders = Counter(one for unit in units for one in unit.keys)
    total = sum(sizes.get(one, 0) for one in holders)
    gone = []
    for unit in sorted(units, key=lambda unit: unit.used):
        if total <= limit or unit.used >= used_before:
            break
        gone.append(unit)
        for one in unit.keys:
            holders[one] -= 1
            if not holders[one]:
                total -= sizes.get(one, 0)
    return gone


def _with_parents(units: list[Unit]) -> list[Unit]:
    """Let an image be as recently used as the index that a client found it by."""
    parents: dict[tuple[str, Digest], float] = {}
    for unit in units:
        for child in unit.children:
            known = parents.get((unit.name, child), 0.0)
            parents[unit.name, child] = max(known, unit.used)
    return [
        replace(unit, used=max(unit.used, parents.get((unit.name, unit.digest), 0.0)))
        for unit in units
    ]
