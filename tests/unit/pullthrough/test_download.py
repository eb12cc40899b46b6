# SPDX-License-Identifier: Apache-2.0
"""A blob on its way, followed by readers of every kind: each gets its bytes or an error."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from buildset_registry.errors import RegistryError, UpstreamFailed
from buildset_registry.oci.digest import Digest
from buildset_registry.pullthrough.download import Download, DownloadStream, Pace
from buildset_registry.store.memory import MemoryStore
from buildset_registry.upstream.counters import UpstreamCounters
from hypothesis import given, settings
from hypothesis import strategies as st


@dataclass
class Part:
    """What one request to upstream gives."""

    size: int | None
    chunks: AsyncIterator[bytes]
    registry: str = ""


@dataclass
class Upstream:
    """Sends a blob in pieces; each request but the last breaks after some bytes."""

    content: bytes
    piece: int
    breaks: list[int]
    tells_size: bool
    asked: list[int] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def open(self, offset: int, taken: Callable[[int], None]) -> AsyncIterator[Part]:
        self.asked.append(offset)
        size = len(self.content) if self.tells_size else None
        yield Part(size, self._chunks(offset, taken))

    async def _chunks(self, offset: int, taken: Callable[[int], None]) -> AsyncIterator[bytes]:
        left = self.breaks.pop(0) if self.breaks else len(self.content) + 1
        while offset < len(self.content):
            piece = self.content[offset : offset + min(self.piece, left)]
            if piece:
                yield piece
                taken(len(piece))
                await asyncio.sleep(0)
            offset += len(piece)
            left -= len(piece)
            if not left:
                raise UpstreamFailed("the connection broke")


@dataclass(frozen=True)
class Follower:
    """Comes after so many rounds, reads a part, and may leave after some pieces."""

    waits: int
    start: int
    end: int
    leaves_after: int | None

    async def read(self, stream: DownloadStream) -> bytes:
        found, pieces = b"", stream.chunks(min(self.start, stream.size), min(self.end, stream.size))
        async with contextlib.aclosing(pieces):
            for _ in range(self.waits):
                await asyncio.sleep(0)
            number = 0
            async for piece in pieces:
                found += piece
                number += 1
                if number == self.leaves_after:
                    break
        return found


FOLLOWERS = st.builds(
    Follower,
    st.integers(0, 30),
    st.integers(0, 300),
    st.integers(0, 300),
    st.none() | st.integers(1, 3),
)


#: Try again without a pause, and read in small pieces.
QUICKLY = Pace(piece=16, pause=0)


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=200),
    piece=st.integers(1, 50),
    breaks=st.lists(st.integers(1, 60), max_size=6),
    tells_size=st.booleans(),
    followers=st.lists(FOLLOWERS, min_size=1, max_size=6),
)
def test_every_reader_gets_its_bytes(
    content: bytes, piece: int, breaks: list[int], tells_size: bool, followers: list[Follower]
) -> None:
    """Wherever the transfer breaks, whenever a reader comes, whatever it reads."""

    async def scenario() -> None:
        upstream = Upstream(content, piece, list(breaks), tells_size)
        counters = UpstreamCounters()
        async with contextlib.aclosing(MemoryStore()) as store:
            digest = Digest.of(content)
            one = Download(digest, upstream.open, "quay.io", counters, QUICKLY)
            running = asyncio.create_task(one.run(store.uploads, _nothing, lambda: None))

            async def follow(follower: Follower) -> None:
                stream = await one.stream()
                assert stream.size == len(content)
                got = await follower.read(stream)
                wanted = content[follower.start : follower.end]
                assert got == (wanted if follower.leaves_after is None else wanted[: len(got)])

            await asyncio.gather(*map(follow, followers))
            await running
            assert await store.blobs.read(digest) == content
            assert upstream.asked == sorted(set(upstream.asked))
            assert counters.received == len(content)

    asyncio.run(scenario())


@settings(max_examples=50, deadline=None)
@given(
    content=st.binary(min_size=2, max_size=200),
    piece=st.integers(1, 50),
    place=st.integers(0, 199),
    followers=st.lists(FOLLOWERS, min_size=1, max_size=6),
)
def test_no_reader_gets_the_whole_of_what_is_wrong(
    content: bytes, piece: int, place: int, followers: list[Follower]
) -> None:
    """One bit is enough; who reads up to the end hears of it, and nothing is stored."""
    place %= len(content)
    damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    async def scenario() -> None:
        upstream = Upstream(damaged, piece, [], True)
        async with contextlib.aclosing(MemoryStore()) as store:
            digest = Digest.of(content)
            one = Download(digest, upstream.open, "quay.io", UpstreamCounters(), QUICKLY)
            running = asyncio.create_task(one.run(store.uploads, _nothing, lambda: None))

            async def follow(follower: Follower) -> None:
                stream = await one.stream()
                reaches = follower.end >= len(content) > follower.start
                whole = reaches and follower.leaves_after is None
                try:
                    await follower.read(stream)
                except RegistryError as error:
                    assert "another digest" in error.message
                else:
                    assert not whole

            await asyncio.gather(*map(follow, followers))
            await running
            assert await store.blobs.size(digest) is None

    asyncio.run(scenario())


async def _nothing() -> None:
    """Link a blob nowhere."""
