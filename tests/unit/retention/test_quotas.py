# SPDX-License-Identifier: Apache-2.0
"""The gate of uploads by quotas."""

from __future__ import annotations

import pytest
from buildset_registry.errors import Denied
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher, RepositoryPattern
from buildset_registry.retention import Quota, QuotaGuard
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
