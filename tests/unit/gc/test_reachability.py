# SPDX-License-Identifier: Apache-2.0
"""The digests that manifests mention, and the manifests that nothing holds; on paper."""

import json

import pytest
from buildset_registry.gc.reachability import ManifestNode, expired, mentioned
from buildset_registry.oci.digest import Digest

A, B, C, D, E = (Digest.of(letter.encode()) for letter in "ABCDE")
LONG = Digest.of(b"long", "sha512")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", set()),
        (b"no JSON at all " + str(A).encode(), {A}),
        (
            json.dumps({"fsLayers": [{"blobSum": str(A)}, {"blobSum": str(LONG)}]}).encode(),
            {A, LONG},
        ),
        (b'{"digest": "\\u0073ha256:%s"}' % A.hex.encode(), {A}),
        (b"\\u not JSON " + str(B).encode(), {B}),
        (str(A).encode() + b"0", set()),
        (b"sha256:" + A.hex.upper().encode(), set()),
    ],
)
def test_every_digest_in_a_manifest_counts(raw: bytes, found: set[Digest]) -> None:
    """Whatever the type, however the digest is written; what is no digest is none."""
    assert mentioned(raw) == found


def node(*children: Digest, subject: Digest | None = None, used: int = 0) -> ManifestNode:
    return ManifestNode(children, subject, used)


@pytest.mark.parametrize(
    ("nodes", "tagged", "gone"),
    [
        ({A: node(), B: node()}, {A}, {B}),
        ({A: node(B), B: node(C), C: node(), D: node()}, {A}, {D}),
        ({A: node(B), B: node(A)}, set(), {A, B}),
        ({A: node(), B: node(subject=A), C: node(subject=B)}, {A}, set()),
        ({A: node(), B: node(subject=A), C: node(subject=B)}, set(), {A, B, C}),
        ({A: node(B), B: node(), C: node(subject=B)}, {A}, set()),
        ({A: node(subject=D), B: node(subject=D)}, {A}, {B}),
        ({A: node(used=9), B: node(used=11)}, set(), {A}),
        ({A: node(B, used=11), B: node()}, set(), set()),
        ({}, {A}, set()),
    ],
)
def test_what_nothing_holds_expires(
    nodes: dict[Digest, ManifestNode], tagged: set[Digest], gone: set[Digest]
) -> None:
    """Tags hold, indexes hold what they list, subjects their referrers; youth holds, too."""
    assert set(expired(nodes, tagged, 10, 10)) == gone


def test_without_expiry_only_referrers_go() -> None:
    """Those whose subject is not there, and that are not young: it may be on its way."""
    nodes = {A: node(), B: node(subject=D), C: node(subject=A), E: node(subject=D, used=11)}
    assert expired(nodes, set(), None, 10) == {B: "its subject is gone"}
