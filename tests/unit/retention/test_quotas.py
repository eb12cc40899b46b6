# SPDX-License-Identifier: Apache-2.0
"""The gate of uploads by quotas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
from buildset_registry.errors import Denied
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher, RepositoryPattern
from buildset_registry.retention import Quota, QuotaGuard
from buildset_registry.retention.intake import Intake
from buildset_registry.store.memory.store import MemoryDocuments

APP, DEEP, OTHER = map(RepositoryName, ("org/app", "org/app/deep", "organ/app"))


def quota(prefix: str, soft: int | None = None, hard: int | None = None) -> Quota:
    """Return a quota as the configuration makes it."""
    patterns = (RepositoryPattern.parse(one) for one in (prefix, f"{prefix}/**"))
    return Quota(
        prefix=prefix, repositories=list(map(RepositoryMatcher, patterns)), soft=soft, hard=hard
    )


@pytest.mark.parametrize(
    ("prefix", "governed"),
    [
        ("org", [APP, DEEP]),
        ("org/app", [APP, DEEP]),
        ("docker.io/org", [APP, DEEP]),
        ("quay.io", []),
        ("**", [APP, DEEP, OTHER]),
    ],
)
def test_a_prefix_ends_at_a_slash(prefix: str, governed: list[RepositoryName]) -> None:
    """And is that of the registry which it names."""
    assert [one for one in (APP, DEEP, OTHER) if quota(prefix).governs(one)] == governed


async def test_an_upload_past_the_quota_is_refused_with_the_figures() -> None:
    """By what was counted, what came since, and what it says of itself."""
    documents = MemoryDocuments()
    guard = QuotaGuard(documents, [quota("org", hard=100), quota("org/app", soft=1)])
    guard.check(APP, 100)
    with pytest.raises(Denied, match=r"org take 0 of the 100 bytes .* this upload has 101"):
        guard.check(APP, 101)
    guard.add(DEEP, 60)
    guard.check(APP, 40)
    with pytest.raises(Denied, match="take 60 of the 100"):
        guard.check(APP, 41)
    await guard.write({"org": 100})
    with pytest.raises(Denied, match="take 100 of the 100 bytes of their quota; delete some"):
        guard.check(APP, 0)
    guard.check(OTHER, 1000)
    await guard.write({"org": 10})
    guard.check(APP, 90)


async def test_another_replica_s_count_is_taken_once() -> None:
    """What this one took in since is not forgotten by reading the same again."""
    documents = MemoryDocuments()
    first, second = (QuotaGuard(documents, [quota("org", hard=100)]) for _number in range(2))
    await first.write({"org": 50})
    await second.refresh()
    second.add(APP, 30)
    await second.refresh()
    with pytest.raises(Denied, match="take 80 of"):
        second.check(APP, 21)
    await documents.write("usage", b"broken")
    await second.refresh()
    second.check(APP, 100)


async def test_what_comes_while_the_collector_counts_is_not_forgotten() -> None:
    """It may have come after the collector looked, and is in no figure."""
    guard = QuotaGuard(MemoryDocuments(), [quota("org", hard=100)])
    guard.add(APP, 10)
    guard.begin()
    guard.add(APP, 30)
    await guard.write({"org": 50})
    with pytest.raises(Denied, match="take 80 of"):
        guard.check(APP, 21)
    guard.begin()
    await guard.write({"org": 70})
    guard.check(APP, 30)


def replica(documents: Sequence[MemoryDocuments], hard: int = 100) -> QuotaGuard:
    """Return the gate of one of several processes, or of one after another."""
    counts, intake = documents
    return QuotaGuard(counts, [quota("org", hard=hard)], Intake(intake))


async def test_replicas_count_what_others_take_in_and_a_restart_forgets_nothing() -> None:
    """Until the collector of any of them has counted it."""
    documents = MemoryDocuments(), MemoryDocuments()
    first, second = replica(documents), replica(documents)
    first.add(APP, 30)
    second.add(APP, 20)
    for guard in (first, second, first):
        await guard.refresh()
    later = replica(documents)
    await later.refresh()
    for guard in (first, second, later):
        with pytest.raises(Denied, match="take 50 of"):
            guard.check(APP, 51)
    second.begin()
    first.add(APP, 5)
    await second.write({"org": 40})
    for guard in (first, second, later, replica(documents)):
        await guard.refresh()
        with pytest.raises(Denied, match="take 45 of"):
            guard.check(APP, 56)
    second.begin()
    await second.write({"org": 45})
    for guard in (first, later, second):
        await guard.refresh()
        guard.check(APP, 55)
    await second.write({"org": 45})
    assert len(await documents[1].names()) == 0


class Late(MemoryDocuments):
    """Documents whose removals another process is faster than."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], Awaitable[None]] | None = None

    async def remove(self, name: str) -> None:
        before, self.before = self.before, None
        if before is not None:
            await before()
        await super().remove(name)


async def test_what_is_told_while_the_collector_forgets_is_told_again() -> None:
    """It removes what it has read, and that is another text by then."""
    told = Late()
    documents = MemoryDocuments(), told
    first, second = replica(documents), replica(documents)

    async def faster() -> None:
        first.add(APP, 20)
        await first.refresh()

    first.add(APP, 30)
    await first.refresh()
    second.begin()
    told.before = faster
    await second.write({"org": 30})
    for guard in (first, second):
        await guard.refresh()
    for guard in (first, second, replica(documents)):
        await guard.refresh()
        with pytest.raises(Denied, match="take 50 of"):
            guard.check(APP, 51)


async def test_what_is_there_already_takes_no_more_room() -> None:
    """A blob that is sent again, or mounted from a repository of the same quota."""
    quotas = [quota("org", hard=1000), quota("org/app", hard=100)]
    guard = QuotaGuard(MemoryDocuments(), quotas)
    one = Digest.of(b"one")
    for _time in range(3):
        guard.add(APP, 40, one)
    guard.add(RepositoryName("org/other"), 40, one)
    guard.add(DEEP, 40, Digest.of(b"two"), RepositoryName("org/other"))
    with pytest.raises(Denied, match="org take 40"):
        guard.check(RepositoryName("org/other"), 961)
    with pytest.raises(Denied, match="org/app take 80"):
        guard.check(APP, 21)


async def test_a_process_that_takes_in_for_weeks_without_a_count_tells_little() -> None:
    """Where nothing is collected, and with what another release may have told."""
    documents = MemoryDocuments(), MemoryDocuments()
    guard = replica(documents, hard=10_000)
    await documents[1].write("broken", b"[3]")
    for _round in range(1000):
        guard.add(APP, 1)
        await guard.refresh()
    with pytest.raises(Denied, match="take 1000 of"):
        guard.check(APP, 9_001)
    (mine,) = {*await documents[1].names()} - {"broken"}
    told = await documents[1].read(mine)
    assert told and len(told.content) < 20_000


async def test_a_full_disk_is_no_reason_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be told is told the next time."""
    documents = MemoryDocuments(), MemoryDocuments()
    guard = replica(documents)
    guard.add(APP, 60)

    async def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryDocuments, "write", fail)
        with pytest.raises(OSError, match="No space"):
            await guard.refresh()
    await guard.refresh()
    later = replica(documents)
    await later.refresh()
    with pytest.raises(Denied, match="take 60 of"):
        later.check(APP, 41)
