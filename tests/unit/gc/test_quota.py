# SPDX-License-Identifier: Apache-2.0
"""Room for quotas: which images go, and which never do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import Config, Endpoints
from buildset_registry.errors import Denied
from buildset_registry.gc import CollectionHistory
from buildset_registry.gc.quota import SizedImage, surplus
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store import open_store
from buildset_registry.store.base import Store

from tests.unit.gc.aging import DAY, Aging, tags_removed
from tests.unit.gc.images import NAME, OTHER, is_whole, push_blob, push_image
from tests.unit.retention.ages import rule
from tests.unit.retention.test_quotas import quota


@pytest.fixture(params=["filesystem", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """The kinds that need no server."""
    storage = tmp_path if request.param == "filesystem" else request.param
    async with aclosing(await open_store(Config(endpoints=Endpoints(), storage=storage))) as opened:
        yield opened


def image(tag: str, used: float, *blobs: int, may_go: bool = True) -> SizedImage:
    """Return an image that was used so many days ago, of blobs of ten bytes each."""
    return SizedImage(NAME, [Tag(tag)], {bytes([one]): 10 for one in blobs}, used * DAY, may_go)


@pytest.mark.parametrize(
    ("limit", "gone"),
    [
        (100, []),
        (50, []),
        (49, ["old"]),
        (40, ["old"]),
        (39, ["old", "older-shared"]),
        (30, ["old", "older-shared"]),
        (0, ["old", "older-shared", "new"]),
    ],
)
def test_the_longest_unused_go_and_shared_content_with_the_last(
    limit: int, gone: list[str]
) -> None:
    """What a rule keeps does not, nor what is in use; what they hold counts all the same."""
    images = [
        image("new", 1, 1),
        image("kept", 90, 2, may_go=False),
        image("in-use", 0, 3),
        image("older-shared", 50, 4, 1),
        image("old", 60, 4, 5),
    ]
    assert [one.tags[0] for one in surplus(images, limit)] == gone


async def test_past_a_soft_quota_the_longest_unused_image_goes(store: Store) -> None:
    """Of those that no rule keeps, in the repositories of the prefix; the log says what is left."""
    registry = Registry(store)
    for tag in ("first", "second", "third"):
        await push_image(registry, tag, layers=(tag.encode() * 1000,))
        await asyncio.sleep(0.02)
    other = await push_image(registry, "other", name=OTHER, layers=(b"other" * 10_000,))
    kept = [rule("rule kept", tags="first", protect=True)]
    quotas = [quota("org/app", soft=12_000, hard=20_000)]
    aging = await Aging(store, kept, quotas).has_always_run()
    told = await aging.run(dry_run=True)
    done = await aging.run()
    assert tags_removed(told) == tags_removed(done) == ["second"]
    reason = next(one.reason for one in done.removed if one.kind == "tag")
    assert reason.startswith("the quota of org/app: the longest unused, last 180 days ago")
    assert not [note for note in done.notes if "take" in note]
    assert await is_whole(registry, OTHER, other)
    asked = Registry(store, removals=aging.retention.removals)
    assert (await asked.tags(NAME, None, None)).items == ["first", "third"]
    with pytest.raises(Denied, match=r"take 1\d{4} of the 20000 bytes"):
        aging.retention.quotas.check(NAME, 10_000)
    tight = Aging(store, [*kept, rule("rule 2", tags="third", last=1)], [quota("**", soft=1)])
    report = await (await tight.has_always_run()).run()
    assert tags_removed(report) == ["other"]
    assert any("more than the 1 of their quota" in note for note in report.notes)


async def test_what_goes_anyway_makes_room(store: Store) -> None:
    """By a rule, or for the quota of some of the repositories: nothing else has to go for it."""
    registry = Registry(store)
    for name, tag in ((OTHER, "oldest"), (NAME, "by-rule"), (NAME, "older"), (NAME, "new")):
        await push_image(registry, tag, name=name, layers=(tag.ljust(7).encode() * 500,))
        await asyncio.sleep(0.02)
    rules = [rule(tags="by-rule", pushed_within=1)]
    wide = quota("org", soft=12_500)
    assert tags_removed(await (await Aging(store, rules, [wide]).has_always_run()).run()) == [
        "by-rule"
    ]
    quotas = [quota("org", soft=8_400), quota("org/app", soft=4_200)]
    report = await (await Aging(store, [], quotas).has_always_run()).run()
    assert tags_removed(report) == ["older"]


async def test_a_new_quota_removes_nothing_at_first(store: Store) -> None:
    """Nor while the clock is not known to be right."""
    await push_image(Registry(store), "one", layers=(b"layer" * 100,))
    aging = Aging(store, [], [quota("**", soft=1)], delay=DAY, now=time.time() + 60)
    assert not (await aging.run()).removed
    report = await aging.run(dry_run=True)
    assert [(one.name, one.kept) for one in report.images] == [("org/app:one", True)]
    assert not report.removed


async def test_a_quota_that_is_nearly_full_is_told_before_pushes_fail(store: Store) -> None:
    """To the log and to ``status``; a dry run is none of its business."""
    await push_image(Registry(store), "one", layers=(b"layer" * 1900,))
    history = CollectionHistory()
    for hard, told in ((20_000, False), (10_500, True)):
        aging = await Aging(store, [], [quota("org", hard=hard)]).has_always_run()
        report = await aging.run()
        history.add(report, 1.0)
        history.add(await aging.run(dry_run=True), 2.0)
        assert len(history.attention) == told
        assert all(one in report.notes for one in history.attention)
    assert f"from {hard} on pushes are refused: delete some" in history.attention[0]


async def test_nobody_s_bytes_count_twice(store: Store) -> None:
    """A layer that two repositories of a prefix share is stored once."""
    registry = Registry(store)
    await push_image(registry, "one", layers=(b"shared" * 1000,))
    await push_image(registry, "one", name=OTHER, layers=(b"shared" * 1000,))
    aging = await Aging(store, [], [quota("org", hard=10_000)]).has_always_run()
    await aging.run()
    with pytest.raises(Denied) as refused:
        aging.retention.quotas.check(RepositoryName("org/new"), 10_000)
    taken = int(refused.value.message.split(" take ")[1].split(" ")[0])
    assert 6002 < taken < 7000


async def test_a_layer_counts_as_long_as_its_push_is_not_past_a_collection_and_then_in_its_image(
    store: Store,
) -> None:
    """One that was there when a count began, and in no image yet, counts from the next one on."""
    registry, layer = Registry(store), b"layer" * 1000
    aging = await Aging(store, [], [quota("org", hard=10_000)]).has_always_run()
    quotas = aging.retention.quotas
    await push_blob(registry, NAME, layer)
    quotas.add(NAME, len(layer), Digest.of(layer))
    with pytest.raises(Denied, match="org take 5000 of"):
        quotas.check(NAME, 6_000)
    await aging.run(grace=DAY)
    quotas.check(NAME, 10_000)
    await push_image(registry, "one", layers=(layer,))
    quotas.check(NAME, 10_000)
    await aging.run(grace=DAY)
    with pytest.raises(Denied, match=r"org take 5\d\d\d of"):
        quotas.check(NAME, 6_000)


async def test_a_soft_quota_reads_no_manifest_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket each is a request: what was read to find what goes is not read again."""
    registry = Registry(store)
    for tag in ("first", "second", "third"):
        await push_image(registry, tag, layers=(tag.encode() * 1000,))
        await asyncio.sleep(0.02)
    await push_image(registry, "other", name=OTHER)
    asked: Counter[Digest] = Counter()
    kind = type(store.blobs)
    read = kind.read

    async def counting(blobs: Any, digest: Digest) -> bytes | None:
        asked[digest] += 1
        return await read(blobs, digest)

    monkeypatch.setattr(kind, "read", counting)
    counts = []
    for quotas in ([], [quota("org", soft=10**9)], [quota("org/app", soft=12_000)]):
        asked.clear()
        report = await (await Aging(store, [], quotas).has_always_run()).run()
        counts.append(sorted(asked.values()))
    assert counts[0] == counts[1]
    assert tags_removed(report) == ["first"]
    assert sum(counts[2]) == sum(counts[0]) - 1  # what goes is not marked
