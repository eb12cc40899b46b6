# SPDX-License-Identifier: Apache-2.0
"""Reachability: what manifests refer to, and which of them nothing holds any more; pure."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest

_DIGEST = re.compile(rb"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})(?![a-f0-9])")

#: A digest in a third of the room: the algorithms differ in length.
Key = bytes


def key(digest: Digest) -> Key:
    """Return the short form of a digest, for large sets."""
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
class ManifestNode:
    """A manifest of a repository: the manifests it lists, its subject, when it was last pushed."""

    children: tuple[Digest, ...]
    subject: Digest | None
    used: float

    @classmethod
    def of(cls, manifest: Manifest, used: float) -> ManifestNode:
        """Return the node of a manifest; one that cannot be read refers to nothing."""
        children = tuple(child.digest for child in manifest.manifests)
        return cls(children, manifest.subject.digest if manifest.subject else None, used)


def expired(
    nodes: Mapping[Digest, ManifestNode],
    tagged: Collection[Digest],
    untagged_before: float | None,
    referrers_before: float,
    elsewhere: Collection[Digest] = (),
) -> dict[Digest, str]:
    """Return the manifests that nothing holds any more, and why.

    A tag holds a manifest, an index what it lists, a subject its referrers. What nothing holds
    goes if it is older than ``untagged_before``, never where that is None; a referrer whose
    subject is neither there nor ``elsewhere`` goes if it is older than ``referrers_before``: its
    subject may be on its way.
    """
    referrers: dict[Digest, list[Digest]] = {}
    for digest, node in nodes.items():
        if node.subject is not None:
            referrers.setdefault(node.subject, []).append(digest)
    waiting = [digest for digest in tagged if digest in nodes]
    for subject in elsewhere:
        waiting += referrers.get(subject, ())
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
