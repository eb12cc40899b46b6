# SPDX-License-Identifier: Apache-2.0
"""Retention in collections over every store: what goes, by which rule, and what never does."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from buildset_registry.errors import ManifestUnknown
from buildset_registry.gc import CollectionReport, Collector
from buildset_registry.gc.images import plan_retention
from buildset_registry.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Tag
from buildset_registry.registry import Registry
from buildset_registry.retention import TOPIC
from buildset_registry.retention.removals import RepositoryRemovals
from buildset_registry.store.base import Store
from buildset_registry.store.documents import read_content
from buildset_registry.verify import verify

from tests.stores.fixtures import ObjectStores
from tests.unit.gc.aging import DAY, Aging, tags_removed
from tests.unit.gc.images import (
    NAME,
    OTHER,
    RULES,
    Described,
    digest_of,
    is_whole,
    push,
    push_blob,
    push_image,
    push_index,
    silent,
)
from tests.unit.retention.ages import rule
from tests.unit.store.kinds import opened

BUILDS = rule("rule builds", tags="{uuid}_*", pulled_within=7)
BUILD = "0123456789abcdef0123456789abcdef"


@pytest.fixture(params=["filesystem", "s3-minio", "swift"])
async def each_store(
    request: pytest.FixtureRequest, tmp_path: Any, object_stores: ObjectStores
) -> AsyncIterator[Store]:
    """A folder and two services: what all others are like was tried with the contract."""
    async with opened(request.param, tmp_path, object_stores) as made:
        yield made


@dataclass
class Accidents:
    """Images that were pushed early, of which some are used later; each is of one kind."""

    registry: Registry
    config: Described
    used: list[Described] = field(default_factory=list)
    images: dict[str, Described] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    async def push(self, kind: str, *tags: str, used: bool = False, **more: Any) -> Described:
        """Push an image of a kind, under tags or by its digest."""
        tree = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config,
            "layers": [],
            "annotations": {"kind": kind},
        } | more
        image = self.images[kind] = await push(self.registry, NAME, tree, tags)
        if used:
            self.used.append(image)
        return image

    async def build(self, kind: str, *, used: bool, **more: Any) -> Described:
        """Push an image under the tag of a build."""
        self.tags[kind] = f"{BUILD}_{kind}"
        return await self.push(kind, self.tags[kind], used=used, **more)

    async def index(self, kind: str, *children: Described, media_type: str = OCI_INDEX) -> None:
        """Push an index that is pulled neither by its tag nor by its digest."""
        self.tags[kind] = f"{BUILD}_{kind}"
        tree = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(children)}
        self.images[kind] = await push(self.registry, NAME, tree, [self.tags[kind]])


#: What stays of these, and what goes, by the one rule that matches them.
STAYS = (
    *("schema2-promoted", "oci-promoted", "one-of-two", "other-of-two"),
    *("list-of-pulled", "index-of-pulled", "nested-of-pulled"),
    *("signed-pulled", "pulled-by-its-signature"),
)
GOES = (
    *("schema2", "oci", "first-of-two", "second-of-two"),
    *("list", "index", "nested"),
    "signed",
)


async def push_accidents(registry: Registry) -> Accidents:
    """Push an image of each kind that a registry's pruning has removed while it was in use."""
    made = Accidents(registry, await push_blob(registry, NAME, b"{}"))
    await asyncio.gather(
        *(_push_images(made, used) for used in (True, False)),
        *(_push_indexes(made, used) for used in (True, False)),
        *(_push_signed(made, kind) for kind in ("signed-pulled", "signed")),
        _push_signed(made, "pulled-by-its-signature"),
    )
    return made


async def _push_images(made: Accidents, used: bool) -> None:
    """Push an image of each type, and one under two tags."""
    end = "-promoted" if used else ""
    layer = await push_blob(made.registry, NAME, f"layer{end}".encode())
    await made.build(f"schema2{end}", used=used, mediaType=DOCKER_MANIFEST, layers=[layer])
    await made.build(f"oci{end}", used=used, layers=[layer])
    first, second = ("one-of-two", "other-of-two") if used else ("first-of-two", "second-of-two")
    image = made.images[second] = await made.build(first, used=used)
    made.tags[second] = f"{BUILD}_{second}"
    raw = (await made.registry.manifest(NAME, digest_of(image))).raw
    await made.registry.push_manifest(NAME, [Tag(made.tags[second])], raw, OCI_MANIFEST)


async def _push_indexes(made: Accidents, used: bool) -> None:
    """Push indexes of each type, one of which lists another one."""
    end = "-of-pulled" if used else ""
    children = {
        kind: await made.push(f"{kind}{end} child", used=used)
        for kind in ("list", "index", "nested")
    }
    await made.index(f"list{end}", children["list"], media_type=DOCKER_LIST)
    await made.index(f"index{end}", children["index"], await made.push(f"index{end} 2nd child"))
    inner = await push_index(made.registry, children=[children["nested"]])
    made.images[f"nested{end} inner child"] = inner
    await made.index(f"nested{end}", inner)


async def _push_signed(made: Accidents, kind: str) -> None:
    """Push an image that is signed by each of the ways that tools have.

    The API lists a referrer, a tag of the fallback another one, and cosign has its own tag.
    """
    image = await made.build(kind, used=kind == "signed-pulled")
    name = f"sha256-{digest_of(image).hex}"
    await made.push(f"referrer of {kind}", subject=image)
    old = await made.push(f"old referrer of {kind}")
    made.images[f"list of {kind}"] = await push_index(made.registry, name, children=[old])
    pulled = kind == "pulled-by-its-signature"
    await made.push(f"signature of {kind}", f"{name}.sig", used=pulled)


async def the_rest(registry: Registry, images: Mapping[str, Described]) -> set[str]:
    """Return the kinds of images that are there, whole with everything in them."""
    return {kind for kind, image in images.items() if await _is_there(registry, image)}


async def _is_there(registry: Registry, image: Described) -> bool:
    if image["mediaType"] in (OCI_INDEX, DOCKER_LIST):
        try:
            await registry.manifest(NAME, digest_of(image))
        except ManifestUnknown:
            return False
        return True
    return await is_whole(registry, NAME, image)


def belongs_to_what_stays(kind: str) -> bool:
    return any(kind == one or kind.endswith(f" of {one}") for one in STAYS) or (
        kind.partition(" ")[0] in STAYS
    )


async def test_what_other_registries_prune_by_accident_stays(each_store: Store) -> None:
    """Promoted after three days, pulled by a child or a signature only, by one of two tags."""
    store, registry = each_store, Registry(each_store)
    pushed = await push_accidents(registry)
    await asyncio.sleep(2.2)  # times of objects are in whole seconds
    split = time.time()
    aging = await Aging(store, [BUILDS], now=split + 7 * DAY).has_always_run()
    aging.use(*pushed.used)
    told = await aging.run(dry_run=True)
    done = await aging.run()
    names = {tag: kind for kind, tag in pushed.tags.items()}
    judged = {one.name.partition(":")[2]: one for one in told.images}
    assert {kind for tag, kind in names.items() if judged[tag].kept} == set(STAYS)
    assert all(judged[tag].rule == "rule builds" for tag in names)
    assert tags_removed(told) == tags_removed(done)
    removed = {names[tag] for tag in tags_removed(done) if tag in names}
    assert removed == set(GOES)
    assert len(tags_removed(done)) == len(GOES) + 2  # and the signatures of one that goes
    stay = {kind for kind in pushed.images if belongs_to_what_stays(kind)}
    assert await the_rest(registry, pushed.images) == stay
    assert not done.problems
    again = await aging.run()
    assert (again.removed, again.blobs) == ([], 0)


async def test_one_tag_s_end_takes_no_other_tag_of_its_digest(local_store: Store) -> None:
    """Nor an index that lists the image; and then nothing but the tag is gone."""
    store, registry = local_store, Registry(local_store)
    image = await push_image(registry, "old", "kept")
    child = await push_image(registry, "old-child", layers=(b"child",))
    await push_index(registry, "kept-index", children=[child])
    aging = await Aging(store, [rule(tags="old*", pushed_within=1)]).has_always_run()
    done = await aging.run()
    assert [one.kind for one in done.removed] == ["tag", "tag"]
    assert await is_whole(registry, NAME, image)
    assert await is_whole(registry, NAME, child)
    assert (await registry.tags(NAME, None, None)).items == ["kept", "kept-index"]


async def test_a_later_404_says_when_and_by_which_rule(local_store: Store) -> None:
    """For the tag and for the digest; what was never there is only unknown."""
    store, registry = local_store, Registry(local_store)
    image = await push_image(registry, "old")
    aging = await Aging(store, [rule("rule builds", pushed_within=1)]).has_always_run()
    asked = Registry(store, removals=aging.retention.removals)
    await aging.run()
    today = time.strftime("%Y-%m-%d", time.gmtime(aging.now))
    for reference in (Tag("old"), digest_of(image)):
        with pytest.raises(ManifestUnknown) as refused:
            await asked.describe(NAME, reference)
        assert refused.value.message.endswith(
            f"; it was removed on {today} by rule builds of the retention"
        )
    with pytest.raises(ManifestUnknown) as refused:
        await asked.manifest(NAME, Tag("never"))
    assert refused.value.message == "org/app has no manifest never"


async def test_the_first_run_after_a_change_of_rules_removes_nothing(local_store: Store) -> None:
    """It says what it would; a dry run is no run; then the delay has to pass."""
    store, registry = local_store, Registry(local_store)
    await push_image(registry, "old")
    aging = await Aging(store, [rule(pushed_within=1)], delay=DAY).has_always_run()
    changed = Aging(store, aging.rules, delay=DAY, fingerprint="changed", now=aging.now)
    for dry_run in (True, True, False):
        report = await changed.run(dry_run=dry_run)
        assert not report.removed
        assert [(one.name, one.kept) for one in report.images] == [("org/app:old", False)]
        assert any("new or were changed" in note for note in report.notes)
    changed.now += DAY / 2
    report = await changed.run()
    assert not report.removed
    assert any("retention.delay" in note for note in report.notes)
    changed.now += DAY / 2
    assert tags_removed(await changed.run()) == ["old"]


async def test_a_process_without_rules_stops_those_of_others(local_store: Store) -> None:
    """It does not note what is pulled there. When it is gone, they wait as after a change."""
    store, registry = local_store, Registry(local_store)
    await push_image(registry, "old")
    aging = await Aging(store, [rule(pushed_within=1)], delay=DAY).has_always_run()
    without = Collector(store, RULES, 0)
    for hours in (1, 12, 23):
        await without.run(silent, dry_run=False)
        aging.now += hours * 3600
        report = await aging.run()
        assert not report.removed
        assert any("new or were changed" in note for note in report.notes)
    await without.close()
    for _day in range(2):
        aging.now += DAY / 2
        removed = tags_removed(await aging.run())
    assert removed == ["old"]


async def test_a_process_without_rules_notes_nothing_where_there_were_none(
    local_store: Store,
) -> None:
    """Nor in a dry run, and a disk that is full is no reason to fail."""
    documents = local_store.documents(TOPIC)
    collector = Collector(local_store, RULES, 0)
    await collector.run(silent, dry_run=False)
    assert await documents.names() == []
    await documents.write("rules", b"{}")
    await collector.run(silent, dry_run=True)
    assert await read_content(documents, "rules") == b"{}"


@pytest.mark.parametrize("years", [1, -1])
async def test_a_clock_a_year_off_removes_nothing(local_store: Store, years: int) -> None:
    """It is noticed and said, whatever it was when the rules were set up, and after a while."""
    registry = Registry(local_store)
    await push_image(registry, "one")
    await push_image(registry, "two", layers=(b"two",))
    rules = [rule(pushed_within=14), rule("rule 2", tags="two", last=1)]
    aging = await Aging(local_store, rules, now=time.time() + 60).has_always_run()
    assert not (await aging.run()).removed
    aging.now += years * 365 * DAY
    report = await aging.run()
    assert any("the clock" in note for note in report.notes)
    for _hour in range(24 * 10):
        aging.now += 3600
        await aging.retention.clock.sign()
    assert not report.removed + (await aging.run()).removed
    aging.now -= years * 365 * DAY
    for _hour in range(24):
        aging.now += 3600
        assert not (await aging.run()).removed
    assert await is_whole(registry, NAME, await push_image(registry, "one"))


async def test_a_clock_that_is_wrong_from_the_beginning_removes_nothing(local_store: Store) -> None:
    """The content itself tells that something is wrong."""
    await push_image(Registry(local_store), "one")
    aging = Aging(local_store, [rule(pushed_within=14)], now=time.time() + 365 * DAY)
    for _day in range(10):
        assert not (await aging.run()).removed
        aging.now += 20 * 3600


async def test_a_host_whose_clock_is_not_the_store_s_removes_nothing(local_store: Store) -> None:
    """The store stamps what is written, and that is looked at in each run."""
    store, registry = local_store, Registry(local_store)
    await push_image(registry, "one")
    aging = await Aging(store, [rule(pushed_within=14)]).has_always_run()
    aging.retention.clock._apart = 300.0
    report = await aging.run()
    assert not report.removed
    assert any("ahead of that of the store; set it right" in note for note in report.notes)
    assert report.attention == [note for note in report.notes if "set it right" in note]


async def test_what_was_not_written_down_yet_counts_as_used(local_store: Store) -> None:
    """Where the rules are new, nobody knows what was pulled before."""
    registry = Registry(local_store)
    await push_image(registry, "one")
    now = time.time()
    aging = await Aging(local_store, [rule(pulled_within=7)], now=now + 30 * DAY).has_always_run()
    clock = (await aging.retention.clock.look()).to_json()
    recorded = clock.replace(b'"recorded": 0.0', b'"recorded": %f' % (now + 25 * DAY))
    await local_store.documents(TOPIC).write("clock", recorded)
    assert not (await aging.run()).removed
    aging.now += DAY / 2
    for _time in range(2):
        assert not (await aging.run()).removed
        aging.now += 0.9 * DAY
    assert tags_removed(await aging.run()) == ["one"]


async def test_rules_that_match_nothing_or_keep_nothing_are_told_of(local_store: Store) -> None:
    """A rule that everybody forgot, and one that takes all."""
    store, registry = local_store, Registry(local_store)
    await push_image(registry, "one")
    rules = [rule(pushed_within=1), rule("rule 2", repositories="nobody/*", last=3)]
    aging = await Aging(store, rules).has_always_run()
    report = await aging.run(dry_run=True)
    assert "rule 2 matches no tag of any repository" in report.notes
    assert "the rules keep none of 1 images" in report.notes
    assert tags_removed(report) == ["one"]


async def test_untagged_images_and_other_repositories_are_left_alone(local_store: Store) -> None:
    """What no rule matches stays, and an image that never had a tag has none to match."""
    store, registry = local_store, Registry(local_store)
    untagged = await push_image(registry, layers=(b"untagged",))
    other = await push_image(registry, "old", name=OTHER)
    await push_image(registry, "old")
    aging = await Aging(store, [rule(repositories="org/app", pushed_within=1)]).has_always_run()
    report = await aging.run()
    assert len(report.removed) == 2
    assert await is_whole(registry, NAME, untagged)
    assert await is_whole(registry, OTHER, other)


async def test_a_blob_that_a_client_was_promised_stays_when_its_image_goes(
    local_store: Store,
) -> None:
    """It is about to be part of another one."""
    store, registry = local_store, Registry(local_store)
    image = await push_image(registry, "old", layers=(b"shared",))
    assert await registry.promised_size(NAME, Digest.of(b"shared")) == 6
    aging = await Aging(store, [rule(pushed_within=1)]).has_always_run()
    assert tags_removed(await aging.run(grace=3600)) == ["old"]
    assert not await is_whole(registry, NAME, image)
    again = await push_image(registry, "new", layers=(b"shared",))
    assert await is_whole(registry, NAME, again)


async def test_a_removal_that_is_broken_off_anywhere_goes_on(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step it dies at: what stays is whole, and the next run ends what it began."""
    registry = Registry(local_store)
    steps = [
        (type(local_store.documents(TOPIC)), "write"),
        (type(local_store.pushed(NAME).tags), "expire"),
        (type(local_store.pushed(NAME).manifests), "expire"),
        (type(local_store.pushed(NAME).referrers), "remove"),
        (type(local_store.blobs), "sweep"),
    ]
    for fatal in range(40):
        kept = await push_image(registry, "v1", "kept", layers=(b"kept", b"shared"))
        children = [await push_image(registry, layers=(b"a",)), kept]
        image = await push_index(registry, "v2", "v3", children=children)
        await push_image(registry, layers=(b"signature",), subject=image)
        aging = await Aging(local_store, [rule(tags="v*", pushed_within=1)]).has_always_run()
        with monkeypatch.context() as patched:
            died = Dying(fatal)
            for kind, name in steps:
                patched.setattr(kind, name, died.before(getattr(kind, name)))
            try:
                await aging.run()
            except asyncio.CancelledError:
                assert died.steps > fatal
        await aging.run()
        assert (await registry.tags(NAME, None, None)).items == ["kept"]
        assert [one.digest for one in await local_store.pushed(NAME).manifests.all()] == [
            digest_of(kept)
        ]
        assert await is_whole(registry, NAME, kept)
        if died.steps <= fatal:
            return
    pytest.fail("it has more steps than that")


async def test_a_full_disk_is_collected_without_the_rules(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed that could not be written down before, and garbage goes all the same."""
    registry = Registry(local_store)
    image = await push_image(registry, "old")
    aging = await Aging(local_store, [rule(pushed_within=1)]).has_always_run()

    async def fail(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for broken in ("the clock's document", "the document of removals"):
        await push_blob(registry, NAME, broken.encode())
        with monkeypatch.context() as patched:
            documents = type(local_store.documents(TOPIC))
            if broken == "the clock's document":
                patched.setattr(documents, "write", fail)
            else:
                patched.setattr(type(aging.retention.removals), "write", fail)
            report = await aging.run()
        assert any("No space left on device" in note for note in report.notes), broken
        assert (tags_removed(report), report.blobs) == ([], 1)
        assert await is_whole(registry, NAME, image)
    assert tags_removed(await aging.run()) == ["old"]


class Dying:
    """A process that dies at a step, and does nothing more."""

    def __init__(self, fatal: int) -> None:
        self._fatal = fatal
        self.steps = 0

    def before(self, work: Any) -> Any:
        async def step(*arguments: Any, **more: Any) -> Any:
            self.steps += 1
            if self.steps > self._fatal:
                raise asyncio.CancelledError
            return await work(*arguments, **more)

        return step


@pytest.mark.parametrize("layer", [b"new", b"old"], ids=["another image", "the same image"])
async def test_a_push_and_a_pull_beside_a_removal_lose_nothing(
    local_store: Store, layer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pushed after the decision stays, whenever it comes, and no tag leads nowhere."""
    registry, later = Registry(local_store), 0
    for number in range(50):
        await push_image(registry, "old", layers=(b"old",))
        child = await push_image(registry, layers=(b"child",))
        await push_index(registry, "index", children=[child])
        aging = await Aging(local_store, [rule(pushed_within=1)]).has_always_run()
        # By this clock what is pushed now is old, too: no run ends what another one left.
        await aging.retention.removals.write(NAME, RepositoryRemovals())
        deciding = Deciding()
        monkeypatch.setattr("buildset_registry.gc.retention.plan_retention", deciding.plan)
        pushing = pull_and_push(registry, aging, child, layer)
        (pushed, decided), _report = await asyncio.gather(
            deciding.around(pushing, number), aging.run(grace=60, settling=60)
        )
        if decided:
            later += 1
            assert (await registry.manifest(NAME, Tag("old"))).digest == digest_of(pushed)
            assert await is_whole(registry, NAME, pushed)
        assert not (await verify(local_store, silent, sparse=False, pause=0)).problems
    assert later >= 20


async def pull_and_push(
    registry: Registry, aging: Aging, child: Described, layer: bytes
) -> Described:
    """Pull an image of an index and push another image."""
    aging.use(child)
    return await push_image(registry, "old", layers=(layer,))


@pytest.mark.parametrize("moment", ["its tag goes", "manifests go", "an index went"])
async def test_a_pull_while_its_tag_goes_finds_the_rest_of_the_image(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The client has an index by the tag, and comes for the rest by digests."""
    registry = Registry(local_store)
    child = await push_image(registry, layers=(b"child",))
    signature = await push_image(registry, layers=(b"signature",), subject=child)
    inner = await push_index(registry, children=[child])
    outer = await push_index(registry, "v1", children=[inner])
    await asyncio.sleep(0.02)  # the clock of files ticks every few milliseconds
    aging = await Aging(local_store, [rule(pushed_within=1)]).has_always_run()
    kind, name, number, pulled = {
        "its tag goes": (type(local_store.pushed(NAME).tags), "expire", 1, outer),
        "manifests go": (type(aging.retention.uses), "flush", 2, outer),
        "an index went": (type(local_store.pushed(NAME).manifests), "expire", 1, inner),
    }[moment]
    work, calls = getattr(kind, name), []

    async def work_and_pull(*arguments: Any) -> Any:
        done = await work(*arguments)
        calls.append(name)
        if len(calls) == number:
            aging.use(pulled)
        return done

    monkeypatch.setattr(kind, name, work_and_pull)
    assert tags_removed(await aging.run()) == ["v1"]
    assert (await registry.describe(NAME, digest_of(inner))).digest == digest_of(inner)
    for image in (child, signature):
        assert await is_whole(registry, NAME, image)


class Deciding:
    """The moment at which a run has read everything."""

    def __init__(self) -> None:
        self._done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def plan(self, *arguments: Any, **more: Any) -> Any:
        self._loop.call_soon_threadsafe(self._done.set)
        return plan_retention(*arguments, **more)

    async def around(self, pushing: Awaitable[Described], number: int) -> tuple[Described, bool]:
        """Push after so many turns, or when it has, and tell whether that was afterwards."""
        for _turn in range(number % 30):
            await asyncio.sleep(0)
        if number >= 30:
            await self._done.wait()
        decided = self._done.is_set()
        return await pushing, decided


def test_the_report_of_a_run_survives_the_control_socket() -> None:
    """A server of an older release sends one without images."""
    report = CollectionReport(True)
    tree = report.to_json()
    assert CollectionReport.from_json(tree) == report
    del tree["images"], tree["notes"]
    assert CollectionReport.from_json(tree) == report
