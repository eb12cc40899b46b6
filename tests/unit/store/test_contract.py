# SPDX-License-Identifier: Apache-2.0
"""One contract, one suite, every store."""

import itertools
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from buildset_registry.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId
from buildset_registry.store.base import BlobState, Store
from buildset_registry.store.documents import read_content

from tests.unit.store.blobs import broken, content_of, pieces

NAME = RepositoryName("org/app")
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


async def test_a_blob_is_there_after_commit_and_not_before(
    store: Store,
) -> None:
    """An upload becomes a blob as a whole or not at all."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"o", b"", b"n"))
    await upload.append(pieces(b"e"))
    assert upload.size == 3
    assert await store.blobs.size(ONE) is None
    await upload.commit(ONE)
    assert await store.blobs.size(ONE) == 3
    assert await store.blobs.read(ONE) == b"one"
    blob = await store.blobs.open(ONE)
    assert blob
    assert (await content_of(blob), blob.size) == (b"one", 3)
    with pytest.raises(BlobUploadUnknown):
        await store.uploads.resume(NAME, upload.id)


async def test_a_wrong_digest_ends_the_upload_and_stores_nothing(
    store: Store,
) -> None:
    """The message names the digest that the content has."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"one"))
    with pytest.raises(DigestInvalid, match=ONE.hex):
        await upload.commit(TWO)
    assert await store.blobs.size(TWO) is None
    assert await store.blobs.size(ONE) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"content" * 100_000])
async def test_a_blob_has_either_algorithm_and_any_size(
    store: Store, algorithm: str, content: bytes
) -> None:
    """An empty blob is a blob."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(content))
    digest = Digest.of(content, algorithm)
    await upload.commit(digest)
    assert await store.blobs.read(digest) == content


async def test_an_interrupted_upload_goes_on_where_it_stopped(
    store: Store,
) -> None:
    """What arrived before the client left is kept, and its size is told."""
    upload = await store.uploads.create(NAME)
    with pytest.raises(ConnectionError):
        await upload.append(broken(ConnectionError("the client left"), b"o", b"n"))
    again = await store.uploads.resume(NAME, upload.id)
    assert again.size == 2
    await again.append(pieces(b"e"))
    await again.commit(ONE)
    assert await store.blobs.read(ONE) == b"one"


async def test_an_upload_belongs_to_its_repository(store: Store) -> None:
    """Neither another repository nor another identifier finds it; a cancelled one is gone."""
    upload = await store.uploads.create(NAME)
    with pytest.raises(BlobUploadUnknown):
        await store.uploads.resume(RepositoryName("other"), upload.id)
    with pytest.raises(BlobUploadUnknown):
        await store.uploads.resume(NAME, UploadId("0f0e0d0c-0b0a-0908-0706-050403020100"))
    await upload.cancel()
    with pytest.raises(BlobUploadUnknown):
        await store.uploads.resume(NAME, upload.id)


async def test_a_reader_follows_growing_content_past_commit(
    store: Store,
) -> None:
    """Clients that follow a download see no difference between arriving and stored."""
    upload = await store.uploads.ingest(ONE)
    await upload.append(pieces(b"on"))
    reader = upload.reader()
    assert await reader.read(0, 10) == b"on"
    await upload.append(pieces(b"e"))
    await upload.commit(ONE)
    assert await reader.read(1, 10) == b"ne"
    late = upload.reader()
    assert await late.read(0, 10) == b"one"
    reader.close()
    late.close()


async def test_committing_the_same_content_twice_is_no_error(
    store: Store,
) -> None:
    """Two clients may push one blob at once."""
    first, second = await store.uploads.create(NAME), await store.uploads.create(NAME)
    for upload in (first, second):
        await upload.append(pieces(b"one"))
    await first.commit(ONE)
    await second.commit(ONE)
    await store.blobs.put(ONE, b"one")
    assert await store.blobs.read(ONE) == b"one"


async def test_any_part_of_a_blob_can_be_read(store: Store) -> None:
    """Wherever it begins and ends, and in whatever pieces it came."""
    parts = [os.urandom(number) for number in (1, 100_000, 3, 300_000, 70_000, 2)]
    content = b"".join(parts)
    digest = Digest.of(content)
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(*parts))
    await upload.commit(digest)
    blob = await store.blobs.open(digest)
    assert blob
    edges = [0, 1, 99_999, 100_001, 100_004, 400_004, len(content) - 1, len(content)]
    for start, end in itertools.combinations_with_replacement(edges, 2):
        found = b"".join([piece async for piece in blob.chunks(start, end)])
        assert found == content[start:end], (start, end)


async def test_who_reads_a_blob_that_is_removed_gets_the_rest_of_it(store: Store) -> None:
    """The collector does not break a transfer that has begun."""
    content = bytes(range(256)) * 4096
    digest = Digest.of(content)
    await store.blobs.put(digest, content)
    blob = await store.blobs.open(digest)
    assert blob
    async with aclosing(blob.chunks(0, blob.size)) as chunks:
        first = await anext(chunks)
        assert await store.blobs.sweep(digest, math.inf, math.inf)
        assert await store.blobs.open(digest) is None
        rest = [piece async for piece in chunks]
    assert b"".join([first, *rest]) == content


async def test_who_reads_an_upload_that_is_cancelled_gets_what_had_arrived(store: Store) -> None:
    """What is open stays readable, and what is closed is gone."""
    upload = await store.uploads.ingest(ONE)
    await upload.append(pieces(b"on"))
    reader = upload.reader()
    await upload.cancel()
    assert await reader.read(0, 10) == b"on"
    reader.close()


async def test_two_requests_cannot_write_one_upload(store: Store) -> None:
    """The second is refused, and the first is not disturbed."""
    upload = await store.uploads.create(NAME)

    async def slow() -> AsyncIterator[bytes]:
        yield b"on"
        for attempt in (upload.append(pieces(b"x")), upload.commit(ONE), upload.cancel()):
            with pytest.raises(BlobUploadInvalid, match="another request"):
                await attempt
        yield b"e"

    await upload.append(slow())
    await upload.commit(ONE)
    assert await store.blobs.read(ONE) == b"one"


@pytest.mark.parametrize("end", ["committed", "refused", "cancelled", "expired"])
async def test_an_upload_that_has_ended_takes_nothing_more(store: Store, end: str) -> None:
    """A request that had found it before is told so; what it became stays as it is."""
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"one"))
    if end == "committed":
        await upload.commit(ONE)
    elif end == "refused":
        with pytest.raises(DigestInvalid):
            await upload.commit(TWO)
    elif end == "cancelled":
        await upload.cancel()
    else:
        (state,) = await store.uploads.all()
        assert await store.uploads.expire(state)
    with pytest.raises(BlobUploadUnknown):
        await upload.append(pieces(b"more"))
    with pytest.raises(BlobUploadUnknown):
        await upload.commit(ONE)
    await upload.cancel()
    assert await store.uploads.all() == []
    assert await store.blobs.read(ONE) == (b"one" if end == "committed" else None)


async def test_a_store_tells_how_much_it_holds_and_that_it_is_well(store: Store) -> None:
    """What is on its way does not count."""
    await store.blobs.put(ONE, b"one")
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"on its way"))
    assert await store.space.used() == 3
    assert await store.space.problem() is None
    free = store.space.free()
    assert free is None or 0 < free[0] <= free[1]


async def test_pushed_and_cached_links_are_apart(store: Store) -> None:
    """What was pulled through is no push, so removing one leaves the other."""
    await store.pushed(NAME).layers.add(ONE)
    await store.cached(NAME).layers.add(TWO)
    assert await store.pushed(NAME).layers.has(ONE)
    assert not await store.pushed(NAME).layers.has(TWO)
    assert not await store.cached(NAME).layers.has(ONE)
    assert await store.cached(NAME).layers.remove(TWO)
    assert not await store.cached(NAME).layers.remove(TWO)
    assert await store.pushed(NAME).layers.has(ONE)


async def test_a_tag_points_to_what_was_set_last(store: Store) -> None:
    """Setting replaces, removing forgets, and the list is in lexical order."""
    tags = store.pushed(NAME).tags
    assert await tags.all() == []
    assert await tags.get(Tag("v1")) is None
    await tags.set(Tag("v1"), ONE)
    await tags.set(Tag("v1"), TWO)
    await tags.set(Tag("B"), ONE)
    await tags.set(Tag("a"), ONE)
    target = await tags.get(Tag("v1"))
    assert target
    assert target.digest == TWO
    assert target.checked > 0
    assert await tags.all() == ["B", "a", "v1"]
    assert {"B", "a"} <= set(await tags.of(ONE))
    assert "v1" in await tags.of(TWO)
    assert await tags.remove(Tag("v1"))
    assert not await tags.remove(Tag("v1"))
    assert await tags.all() == ["B", "a"]
    assert "v1" not in await tags.of(TWO)


async def test_manifest_links_keep_a_media_type(store: Store) -> None:
    """A type that the bytes do not tell is kept beside the link."""
    manifests = store.pushed(NAME).manifests
    assert await manifests.media_type(ONE) is None
    await manifests.set_media_type(ONE, "application/custom")
    assert not await manifests.has(ONE)
    assert not await manifests.remains(ONE)
    await manifests.add(ONE)
    await manifests.add(ONE)
    assert await manifests.has(ONE)
    assert await manifests.remains(ONE)
    assert await manifests.media_type(ONE) == "application/custom"
    assert await manifests.remove(ONE)
    assert not await manifests.has(ONE)
    assert not await manifests.remains(ONE)
    assert await manifests.media_type(ONE) is None


async def test_a_link_names_what_it_links_to(store: Store) -> None:
    """Where nothing was linked, nothing is named."""
    layers = store.pushed(NAME).layers
    assert await layers.target(ONE) is None
    await layers.add(ONE)
    assert await layers.target(ONE) == ONE


async def test_referrers_are_found_by_subject(store: Store) -> None:
    """Each subject has its own list, in the order of digests."""
    referrers = store.pushed(NAME).referrers
    assert await referrers.of(ONE) == []
    await referrers.add(ONE, TWO)
    await referrers.add(ONE, ONE)
    assert await referrers.of(ONE) == sorted([ONE, TWO], key=str)
    assert await referrers.of(TWO) == []
    assert await referrers.remove(ONE, TWO)
    assert not await referrers.remove(ONE, TWO)
    assert await referrers.of(ONE) == [ONE]


@pytest.mark.parametrize("listed", [False, True], ids=["read anew", "kept in memory"])
async def test_a_repository_that_holds_nothing_is_not_listed(store: Store, listed: bool) -> None:
    """Removing its last link takes it from the list, and the next push brings it back."""
    pushed, cached, tag = store.pushed(NAME), store.cached(NAME), Tag("1")
    inner = store.pushed(RepositoryName(f"{NAME}/inner"))
    await inner.layers.add(ONE)
    for _again in range(2):
        await pushed.layers.add(ONE)
        await pushed.manifests.add(TWO)
        await pushed.tags.set(tag, TWO)
        await cached.manifests.add(TWO)
        steps = [
            pushed.tags.remove(tag),
            pushed.manifests.remove(TWO),
            pushed.layers.prune(ONE),
            cached.manifests.expire(TWO, time.time() + 60),
        ]
        for step in steps:
            if listed:
                assert NAME in await store.repositories()
            assert await step
        assert await store.repositories() == [f"{NAME}/inner"]
        assert not await pushed.exists()


async def test_repositories_are_listed_in_lexical_order(
    store: Store,
) -> None:
    """A repository may stand inside another; an upload alone makes none."""
    for name in ("b", "a/b", "a", "quay.io/org/app"):
        await store.pushed(RepositoryName(name)).layers.add(ONE)
    await store.cached(RepositoryName("c")).manifests.add(ONE)
    await store.uploads.create(RepositoryName("only-upload"))
    assert await store.repositories() == ["a", "a/b", "b", "c", "quay.io/org/app"]
    assert await store.pushed(RepositoryName("a")).exists()
    assert not await store.pushed(RepositoryName("c")).exists()
    assert await store.cached(RepositoryName("c")).exists()


async def states(store: Store) -> dict[Digest, BlobState]:
    return {state.digest: state async for batch in store.blobs.walk() for state in batch}


async def test_a_blob_is_swept_when_it_is_promised_to_nobody(store: Store) -> None:
    """Both times have to be past; what is swept is gone, and can be pushed again."""
    await store.blobs.put(ONE, b"one")
    await store.blobs.put(TWO, b"two")
    state = (await states(store))[ONE]
    assert (state.size, state.promised > 0, state.changed > 0) == (3, True, True)
    later = time.time() + 10
    assert not await store.blobs.sweep(ONE, state.promised, later)
    assert not await store.blobs.sweep(ONE, later, state.changed)
    assert await store.blobs.sweep(ONE, later, later)
    assert not await store.blobs.sweep(ONE, later, later)
    assert await store.blobs.keep(ONE) is None
    assert list(await states(store)) == [TWO]
    await store.blobs.put(ONE, b"one")
    assert await store.blobs.read(ONE) == b"one"


async def test_what_upstream_gave_is_promised_once_a_pusher_asks(
    store: Store,
) -> None:
    """Until then only its links hold it."""
    upload = await store.uploads.ingest(ONE)
    await upload.append(pieces(b"one"))
    await upload.commit(ONE)
    assert (await states(store))[ONE].promised == 0
    assert await store.blobs.keep(ONE) == 3
    assert (await states(store))[ONE].promised > 0


async def test_a_push_of_what_is_there_promises_it(
    store: Store,
) -> None:
    """The collector spares it, as if it were new."""
    upload = await store.uploads.ingest(ONE)
    await upload.append(pieces(b"one"))
    await upload.commit(ONE)
    upload = await store.uploads.create(NAME)
    await upload.append(pieces(b"one"))
    await upload.commit(ONE)
    assert not await store.blobs.sweep(ONE, 1, time.time() + 10)


async def test_a_link_expires_when_nobody_used_it(store: Store) -> None:
    """Making it again counts as use."""
    manifests = store.pushed(NAME).manifests
    assert not await manifests.use(ONE)
    assert not await manifests.expire(ONE, time.time() + 10)
    await manifests.add(ONE)
    (state,) = await manifests.all()
    assert state.digest == ONE
    assert not await manifests.expire(ONE, state.used)
    assert await manifests.use(ONE)
    await manifests.add(ONE)
    assert not await manifests.expire(ONE, state.used)
    assert await manifests.expire(ONE, time.time() + 10)
    assert await manifests.all() == []


async def test_a_link_to_nothing_is_pruned(store: Store) -> None:
    """One to content that is there stays, under whatever digest it is stored."""
    layers = store.pushed(NAME).layers
    await store.blobs.put(ONE, b"one")
    alias = Digest.of(b"one", "sha512")
    for digest, target in ((ONE, None), (alias, ONE), (TWO, None)):
        await layers.add(digest, target)
    assert await layers.target(alias) == ONE
    for digest in (ONE, alias):
        assert not await layers.prune(digest)
    assert await layers.prune(TWO)
    assert not await layers.prune(TWO)
    assert {state.digest for state in await layers.all()} == {ONE, alias}


async def test_uploads_expire_unless_they_go_on(store: Store) -> None:
    """Also not while a request writes."""
    upload = await store.uploads.create(NAME)
    (before,) = await store.uploads.all()
    assert (before.name, before.id, before.size) == (NAME, upload.id, 0)

    async def slow() -> AsyncIterator[bytes]:
        yield b"on"
        assert not await store.uploads.expire(replace(before, changed=time.time() + 10))
        yield b"e"

    await upload.append(slow())
    (after,) = await store.uploads.all()
    assert after.size == 3
    assert not await store.uploads.expire(replace(after, changed=0))
    assert await store.uploads.expire(after)
    assert not await store.uploads.expire(after)
    assert await store.uploads.all() == []
    with pytest.raises(BlobUploadUnknown):
        await store.uploads.resume(NAME, upload.id)


async def test_a_tag_expires_unless_it_was_set_again(store: Store) -> None:
    """What it is goes by the target that somebody decided on, digest and time."""
    tags = store.pushed(NAME).tags
    await tags.set(Tag("v1"), ONE)
    await tags.set(Tag("v2"), ONE)
    found = await tags.get(Tag("v1"))
    assert found
    assert not await tags.expire(Tag("v1"), replace(found, digest=TWO))
    assert not await tags.expire(Tag("v1"), replace(found, checked=found.checked - 5))
    assert not await tags.expire(Tag("none"), found)
    assert await tags.all() == ["v1", "v2"]
    assert await tags.expire(Tag("v1"), found)
    assert await tags.get(Tag("v1")) is None
    assert await tags.all() == ["v2"]
    await tags.restore(Tag("v1"), TWO)
    await tags.restore(Tag("v2"), TWO)
    assert await tags.all() == ["v1", "v2"]
    for tag, digest in ((Tag("v1"), TWO), (Tag("v2"), ONE)):
        target = await tags.get(tag)
        assert target
        assert target.digest == digest


@pytest.mark.parametrize("secret", [False, True])
async def test_a_document_is_written_whole_and_has_a_time(store: Store, secret: bool) -> None:
    """It is replaced, and removed, in its topic alone, and is no repository."""
    documents, others = (store.documents(topic, secret=secret) for topic in ("one", "two"))
    assert await documents.read("clock") is None
    before = time.time()
    for content in (b"first, which is longer", b"second"):
        await documents.write("clock", content)
    await others.write("clock", b"")
    found = await store.documents("one", secret=secret).read("clock")
    assert found
    assert found.content == b"second"
    assert before - 2 < found.changed < time.time() + 2
    await documents.write("rules", b"")
    async with documents.turn():
        assert sorted(await store.documents("one", secret=secret).names()) == ["clock", "rules"]
    assert await store.documents("three", secret=secret).names() == []
    await documents.remove("clock")
    assert await documents.names() == ["rules"]
    assert await read_content(documents, "clock") is None
    await documents.remove("clock")
    assert await read_content(others, "clock") == b""
    assert await store.repositories() == []


async def test_one_at_a_time_works_on_a_topic(store: Store) -> None:
    """The others are told at once, and have it when it is free; topics are apart."""
    first, second = (store.documents("one") for _number in range(2))
    async with first.turn() as mine, second.turn() as late, store.documents("two").turn() as other:
        assert (mine, late, other) == (True, False, True)
        await second.write("clock", b"written all the same")
    async with second.turn() as mine:
        assert mine
