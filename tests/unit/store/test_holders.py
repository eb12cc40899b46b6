# SPDX-License-Identifier: Apache-2.0
"""The way from a digest to the repositories that hold it."""

from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.base import Store
from buildset_registry.store.holders import Holders

APP, OTHER = RepositoryName("org/app"), RepositoryName("quay.io/org/other")
DIGEST = Digest.of(b"blob")


async def test_each_link_is_remembered_wherever_it_is_made(store: Store) -> None:
    """A layer or a manifest, pushed or pulled through; the latest comes first."""
    await store.pushed(APP).layers.add(DIGEST)
    await store.cached(OTHER).manifests.add(DIGEST)
    assert [*store.holders.of(DIGEST)] == [OTHER, APP]
    await store.pushed(APP).layers.add(DIGEST)
    assert [*store.holders.of(DIGEST)] == [APP, OTHER]


def test_what_is_remembered_has_a_bound() -> None:
    """Of digests, and of the repositories of one; what was linked longest ago is forgotten."""
    holders = Holders(limit=2)
    names = [RepositoryName(f"org/{number}") for number in range(20)]
    for name in names:
        holders.add(name, DIGEST)
    assert [*holders.of(DIGEST)] == names[:-9:-1]
    for content in (b"second", b"third"):
        holders.add(APP, Digest.of(content))
    assert [*holders.of(DIGEST)] == []
    assert [*holders.of(Digest.of(b"third"))] == [APP]
