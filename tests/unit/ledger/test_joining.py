# SPDX-License-Identifier: Apache-2.0
"""Requests that belong to one image are one row, and no others."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from buildset_registry.ledger.joining import ImageParts, Joiner
from buildset_registry.ledger.rows import Row, Seen, Sighting
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

INDEX, AMD, ARM, OTHER, LAYER, BASE = (f"sha256:{letter * 64}" for letter in "abcdef")
PARTS = {
    INDEX: ImageParts({AMD: "linux/amd64", ARM: "linux/arm64"}),
    AMD: ImageParts(blobs=frozenset({LAYER, BASE})),
    ARM: ImageParts(blobs=frozenset({BASE})),
    OTHER: ImageParts(blobs=frozenset({LAYER})),
}
#: A request: its method, what was asked for, what was answered, and when.
Step = tuple[str, str, str, float]
HEAD_TAG: Step = ("HEAD", "1.0", INDEX, 0)
GET_INDEX: Step = ("GET", INDEX, INDEX, 0.1)
GET_AMD: Step = ("GET", AMD, AMD, 0.2)
GET_LAYER: Step = ("blob", LAYER, LAYER, 0.3)


class Memory:
    """What a store knows."""

    def __init__(self, *, full: bool = False) -> None:
        self._full = full

    async def source(self, name: str, reference: str, digest: str, now: float) -> Row:
        return {"kind": "pushed"}

    async def parts(self, name: str, digest: str) -> ImageParts | None:
        return None if self._full else PARTS[digest]


ROUTES = {"HEAD": "end-3-head", "GET": "end-3", "blob": "end-2"}


def sighting(step: Step, client: str = "10.0.0.1", status: int = 200) -> Sighting:
    method, reference, digest, _time = step
    return Sighting(client, None, "docker", ROUTES[method], "app", reference, digest, status)


async def rows(steps: Sequence[Step], *, full: bool = False) -> list[Row]:
    """Return the rows of a client's requests."""
    joiner = Joiner(Memory(full=full))
    found: dict[str, Row] = {}
    for step in steps:
        media_type = OCI_INDEX if step[2] == INDEX else OCI_MANIFEST
        seen = Seen(step[3], step[3], media_type, "app", requests=1, stored=10)
        await joiner.add(sighting(step), seen)
        found |= {row["id"]: row for row in joiner.take()}
    return list(found.values())


ONE_PULL = {
    "docker": [HEAD_TAG, GET_INDEX, GET_AMD, GET_LAYER],
    "containerd, which asks for the index again": [HEAD_TAG, GET_INDEX, GET_AMD, GET_INDEX],
    "podman": [("GET", "1.0", INDEX, 0), GET_AMD, GET_LAYER],
    "oras": [HEAD_TAG, ("GET", "1.0", INDEX, 1), GET_AMD],
    "by digest": [GET_INDEX, GET_AMD, GET_LAYER],
    "a copy of all platforms": [
        ("GET", "1.0", INDEX, 0),
        GET_AMD,
        GET_LAYER,
        ("GET", ARM, ARM, 1),
    ],
    "a layer that took a quarter of an hour": [HEAD_TAG, GET_AMD, ("blob", LAYER, LAYER, 900)],
    "nothing but the question": [HEAD_TAG],
    "a build for two platforms, which asks for both at once": [
        HEAD_TAG,
        ("HEAD", "1.0", INDEX, 0.02),
        GET_INDEX,
        GET_AMD,
        ("GET", ARM, ARM, 0.3),
    ],
}


@pytest.mark.parametrize("case", ONE_PULL)
async def test_the_requests_of_a_pull_are_one_row(case: str) -> None:
    """Whatever the order in which a client asks."""
    (row,) = await rows(ONE_PULL[case])
    assert row["digest"] == INDEX
    assert row["requests"] == len(ONE_PULL[case])
    assert row["bytes"]["store"] == 10 * len(ONE_PULL[case])


SEVERAL: dict[str, tuple[list[Step], int]] = {
    "the tag again after a layer": ([*ONE_PULL["docker"], ("HEAD", "1.0", INDEX, 1)], 2),
    "the tag again much later": ([HEAD_TAG, ("HEAD", "1.0", INDEX, 60)], 2),
    "the tag got twice, without a layer": ([("GET", "1.0", INDEX, 0), ("GET", "1.0", INDEX, 5)], 2),
    "the tag again by a client that has the image": ([HEAD_TAG, ("HEAD", "1.0", INDEX, 1)], 2),
    "the tag again when all was got, and again": (
        [*ONE_PULL["docker"], ("HEAD", "1.0", INDEX, 1), ("HEAD", "1.0", INDEX, 2)],
        3,
    ),
    "the tag moved": ([HEAD_TAG, ("HEAD", "1.0", OTHER, 1)], 2),
    "another tag of the image": ([HEAD_TAG, ("HEAD", "2.0", INDEX, 1)], 2),
    "by digest, twice": ([GET_INDEX, GET_AMD, GET_LAYER, ("GET", INDEX, INDEX, 20)], 2),
    "an image that is not in the index": ([GET_INDEX, ("GET", OTHER, OTHER, 1)], 2),
}


@pytest.mark.parametrize("case", SEVERAL)
async def test_what_is_another_pull_is_another_row(case: str) -> None:
    """Each is what a job may have tested."""
    steps, number = SEVERAL[case]
    assert len(await rows(steps)) == number


@pytest.mark.parametrize("jump", [-1e6, 1e6])
async def test_a_clock_that_jumps_in_the_midst_of_a_pull_parts_nothing(jump: float) -> None:
    """How long ago something was is told by a clock that nobody sets."""
    joiner = Joiner(Memory())
    for number, step in enumerate(ONE_PULL["docker"]):
        media_type = OCI_INDEX if step[2] == INDEX else OCI_MANIFEST
        seen = Seen(1e9 + number * jump, step[3], media_type, "app", requests=1, stored=10)
        await joiner.add(sighting(step), seen)
    (row,) = joiner.take()
    assert (row["requests"], row["blobs"]) == (4, 1)


async def test_the_platform_of_a_manifest_is_named() -> None:
    """As the index lists it."""
    (row,) = await rows(ONE_PULL["a copy of all platforms"])
    assert row["manifests"] == [
        {"digest": AMD, "platform": "linux/amd64"},
        {"digest": ARM, "platform": "linux/arm64"},
    ]


async def test_an_index_that_is_not_stored_is_joined_all_the_same() -> None:
    """A full disk keeps nothing of what is pulled through."""
    (row,) = await rows(ONE_PULL["docker"], full=True)
    assert row["manifests"] == [{"digest": AMD}]


async def test_a_layer_that_belongs_to_nothing_is_told_as_such() -> None:
    """Somebody goes on with a download of yesterday."""
    (row,) = await rows([GET_LAYER])
    assert (row["kind"], row["digest"]) == ("blob", LAYER)


async def test_other_clients_have_rows_of_their_own() -> None:
    """The same image at the same time from two nodes."""
    joiner = Joiner(Memory())
    for client in ("10.0.0.1", "10.0.0.2"):
        await joiner.add(sighting(HEAD_TAG, client), Seen(0, 0, OCI_INDEX, "app", requests=1))
    assert [row["client"] for row in joiner.take()] == ["10.0.0.1", "10.0.0.2"]


async def test_what_is_open_is_bounded() -> None:
    """However many clients ask for however many tags."""
    joiner = Joiner(Memory())
    for number in range(6000):
        step = ("HEAD", f"t{number}", INDEX, 0.0)
        await joiner.add(sighting(step, f"c{number % 50}"), Seen(0, 0, OCI_INDEX, requests=1))
    assert joiner.open <= 50 * 64
    assert len(joiner.take()) == 6000


async def test_the_same_miss_is_one_row() -> None:
    """A client that waits for an image asks again and again."""
    joiner = Joiner(Memory())
    for clock in range(5):
        missing = sighting(HEAD_TAG, status=404)
        await joiner.add(missing, Seen(clock, clock, requests=1))
    (row,) = joiner.take()
    assert (row["kind"], row["status"], row["requests"]) == ("missing", 404, 5)


async def test_clients_without_end_that_pull_one_large_image_share_its_parts() -> None:
    digests = [f"sha256:{number:064x}" for number in range(400)]
    large = ImageParts(blobs=frozenset(digests))

    class Large(Memory):
        async def parts(self, name: str, digest: str) -> ImageParts | None:
            return large

    joiner = Joiner(Large())
    seen = Seen(1, 1, OCI_MANIFEST, "app", requests=1)
    tracemalloc.start()
    try:
        for number in range(200):
            one = sighting(("GET", "1.0", AMD, 1), client=f"10.0.0.{number}")
            await joiner.add(one, seen)
            joiner.take()
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert joiner.open == 200
    assert held < 200 * 8 * 1024


async def test_clients_that_come_back_late_for_a_blob_leave_nothing_behind() -> None:
    joiner = Joiner(Memory())
    for number in range(50):
        client = f"10.0.0.{number}"
        pulled = Seen(0, 0, OCI_MANIFEST, "app", requests=1)
        await joiner.add(sighting(("GET", "1.0", AMD, 0), client), pulled)
        late = Seen(5000, 5000, "", "app", requests=1)
        await joiner.add(sighting(("blob", LAYER, LAYER, 5000), client), late)
    assert joiner.open == len(joiner._open) == 0
