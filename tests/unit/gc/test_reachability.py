# SPDX-License-Identifier: Apache-2.0
"""What may go, decided on paper."""

import json
from typing import Any

import pytest
from buildset_registry.gc.reachability import Node, Unit, evictions, expired, key, mentioned
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


def node(*children: Any, subject: Digest | None = None, used: int = 0) -> Node:
    return Node(children, subject, used)


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
    nodes: dict[Digest, Node], tagged: set[Digest], gone: set[Digest]
) -> None:
    """Tags hold, indexes hold what they list, subjects their referrers; youth holds, too."""
    assert set(expired(nodes, tagged, 10, 10)) == gone


def test_without_expiry_only_referrers_go() -> None:
    """Those whose subject is not there, and that are not young: it may be on its way."""
    nodes = {A: node(), B: node(subject=D), C: node(subject=A), E: node(subject=D, used=11)}
    assert expired(nodes, set(), None, 10) == {B: "its subject is gone"}


def unit(
    digest: Digest, *layers: Any, used: int, name: str = "app", children: tuple[Any, ...] = ()
) -> Unit:
    return Unit(name, digest, layers, children, None, used)


SIZES = {key(digest): 10 for digest in (A, B, C, D)}


@pytest.mark.parametrize(
    ("limit", "gone"), [(40, []), (39, [A]), (30, [A]), (29, [A, B]), (0, [A, B, C])]
)
def test_the_longest_unused_goes_first(limit: int, gone: list[Digest]) -> None:
    """Just as much as is needed; what is in use stays even if that is too much."""
    units = [unit(C, used=3), unit(A, used=1), unit(B, used=2), unit(D, used=9)]
    assert [one.digest for one in evictions(units, SIZES, limit, 5)] == gone


def test_shared_content_goes_with_its_last_holder() -> None:
    """Evicting one of two images with the same layer frees only what is its own."""
    units = [unit(A, C, used=1), unit(B, C, used=2)]
    assert [one.digest for one in evictions(units, SIZES, 20, 5)] == [A]
    assert [one.digest for one in evictions(units, SIZES, 19, 5)] == [A, B]


def test_what_a_job_pushed_too_costs_nothing() -> None:
    """Evicting it would free nothing, so it does not count."""
    assert evictions([unit(E, used=1)], SIZES, 0, 5) == []


def test_an_image_is_as_young_as_the_index_it_was_found_by() -> None:
    """The client asked for the index last, and has the image already."""
    units = [unit(A, used=4, children=(B,)), unit(B, used=1), unit(C, used=2)]
    assert [one.digest for one in evictions(units, SIZES, 20, 5)] == [C]
    other = [unit(A, used=4, children=(B,), name="other"), unit(B, used=1), unit(C, used=2)]
    assert [one.digest for one in evictions(other, SIZES, 20, 5)] == [B]
