# SPDX-License-Identifier: Apache-2.0
"""A blob is answered for from a file, from a stream, or by where it is, as its store has it."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.auth.access import Policy, Role
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.auth.tokens import Signing, TokenIssuer
from buildset_registry.http.accesslog import AccessLog, AccessRecord
from buildset_registry.http.app import App
from buildset_registry.http.asgi import Message
from buildset_registry.http.context import Context, StreamedClients, UploadLimit
from buildset_registry.http.events import Events
from buildset_registry.metrics.counters import RequestCounters
from buildset_registry.notifications.events import Event
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.store.base import BlobFile, BlobRedirect, BlobSource, StoredBlob
from buildset_registry.store.memory import MemoryStore
from buildset_registry.store.memory.blobs import MemoryBlobs
from buildset_registry.verify import verify

NAME = RepositoryName("org/app")
CONTENT = bytes(range(256)) * 4096
DIGEST, EMPTY = Digest.of(CONTENT), Digest.of(b"")
ELSEWHERE = "https://bucket.example/blob?signature=x"

Form = Callable[[bytes, Path], StoredBlob]


def as_file(content: bytes, folder: Path) -> BlobFile:
    path = folder / Digest.of(content).hex
    path.write_bytes(content)
    return BlobFile(path, len(content))


def as_stream(content: bytes, _folder: Path) -> BlobSource:
    async def chunks(start: int, end: int) -> AsyncGenerator[bytes]:
        for at in range(start, end, 1000):
            yield content[at : min(at + 1000, end)]

    return BlobSource(len(content), chunks)


def as_redirect(content: bytes, folder: Path) -> BlobRedirect:
    return BlobRedirect(ELSEWHERE, len(content), as_stream(content, folder).chunks)


class ShapedBlobs(MemoryBlobs):
    """Blobs that are all handed out in one form."""

    def __init__(self, form: Form, folder: Path) -> None:
        super().__init__()
        self._form = form
        self._folder = folder

    async def open(self, digest: Digest) -> StoredBlob | None:
        content = await self.read(digest)
        return None if content is None else self._form(content, self._folder)


class ShapedStore(MemoryStore):
    """A store of such blobs."""

    def __init__(self, form: Form, folder: Path) -> None:
        super().__init__()
        self.blobs = ShapedBlobs(form, folder)


def content_of_file(path: str) -> bytes:
    return Path(path).read_bytes()


@dataclass
class Answer:
    """What a client gets; the content of a file that the server sends is in it, too."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    sent_by_server: bool = False

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.pathsend":
            self.content += content_of_file(message["path"])
            self.sent_by_server = True
        else:
            self.content += message["body"]


@dataclass
class Client:
    """Asks an application for blobs."""

    app: App
    told: list[Event]

    async def ask(self, method: str, digest: Digest, **headers: str) -> Answer:
        answer, asked = Answer(), asyncio.Event()
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": f"/v2/{NAME}/blobs/{digest}",
            "query_string": b"",
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
        }

        async def receive() -> Message:
            if not asked.is_set():
                asked.set()
                return {"type": "http.request", "body": b"", "more_body": False}
            return await asyncio.Future()  # the client stays

        await self.app(scope, receive, answer.take)
        return answer

    def put(self, event: Event) -> None:
        self.told.append(event)


@pytest.fixture(params=[as_file, as_stream, as_redirect], ids=["file", "stream", "redirect"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShapedStore:
    made = ShapedStore(request.param, tmp_path)
    for content in (CONTENT, b""):
        await made.blobs.put(Digest.of(content), content)
        await made.pushed(NAME).layers.add(Digest.of(content))
    return made


@pytest.fixture
def client(store: ShapedStore) -> Client:
    policy = Policy(endpoint=Role.SINGLE)
    tokens = TokenIssuer(Signing(bytes(32), "registry", 300, 0))
    context = Context(
        Registry(store),
        policy,
        Authenticator(None, tokens, policy),
        "",
        store.space,
        UploadLimit(0),
        absolute_urls=True,
    )
    record = AccessRecord(AccessLog(io.StringIO()), RequestCounters("single"))
    told: list[Event] = []
    made = Client(App(context, record), told)
    made.app = App(context, record, Events([made], context))
    return made


def is_elsewhere(store: ShapedStore, answer: Answer) -> bool:
    """Whether it is a redirect; then where it leads to is the store's URL as it is."""
    if answer.status == 307:
        assert answer.headers["location"] == ELSEWHERE
        assert answer.headers["content-length"] == "0"
        assert "cache-control" not in answer.headers
        assert answer.content == b""
    return answer.status == 307


async def test_a_whole_blob_comes_in_the_form_that_its_store_has(
    store: ShapedStore, client: Client
) -> None:
    """Files are sent by the server; whoever is told of pulls is told of each."""
    form = await store.blobs.open(DIGEST)
    answer = await client.ask("GET", DIGEST)
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert is_elsewhere(store, answer) == isinstance(form, BlobRedirect)
    if answer.status != 307:
        assert (answer.status, answer.content) == (200, CONTENT)
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.sent_by_server == isinstance(form, BlobFile)
    (event,) = client.told
    assert (event.action, event.target.size) == ("pull", len(CONTENT))


@pytest.mark.parametrize(
    ("streamed", "stays"),
    [
        (StreamedClients(networks=(ip_network("127.0.0.0/8"),)), True),
        (StreamedClients(networks=(ip_network("10.0.0.0/8"), ip_network("::/0"))), False),
        (StreamedClients(agents=("docker/", "containerd/1.4")), True),
        (StreamedClients(agents=("containerd/1.5",)), False),
    ],
)
async def test_a_client_that_is_excepted_is_sent_nowhere_else(
    store: ShapedStore, client: Client, streamed: StreamedClients, stays: bool
) -> None:
    """By its network, or by what it calls itself; it gets the bytes, and ranges of them."""
    client.app = App(replace(client.app._context, streamed=streamed), client.app._record)
    agent = {"user_agent": "containerd/1.4.12"}
    whole = await client.ask("GET", DIGEST, **agent)
    part = await client.ask("GET", DIGEST, range="bytes=1-3", **agent)
    if stays or not is_elsewhere(store, whole):
        assert (whole.status, whole.content) == (200, CONTENT)
        assert (part.status, part.content) == (206, CONTENT[1:4])


async def test_an_empty_blob_comes_in_any_form(store: ShapedStore, client: Client) -> None:
    """It has no byte that a file could be sent for."""
    answer = await client.ask("GET", EMPTY)
    if not is_elsewhere(store, answer):
        assert (answer.status, answer.content) == (200, b"")


async def test_ranges_of_a_blob_come_in_any_form(store: ShapedStore, client: Client) -> None:
    """One, or several at once; where the blob is elsewhere, ranges are asked for there."""
    one = await client.ask("GET", DIGEST, range="bytes=1000-299999")
    if not is_elsewhere(store, one):
        assert (one.status, one.content) == (206, CONTENT[1000:300_000])
    two = await client.ask("GET", DIGEST, range="bytes=0-0,500000-500009")
    if not is_elsewhere(store, two):
        assert two.status == 206
        assert len(two.content) == int(two.headers["content-length"])
        assert CONTENT[500_000:500_010] in two.content


async def test_the_size_of_a_blob_is_told_here_in_any_form(
    store: ShapedStore, client: Client
) -> None:
    """HEAD leads nowhere else, nor does a client that has it already."""
    head = await client.ask("HEAD", DIGEST)
    assert (head.status, head.headers["content-length"]) == (200, str(len(CONTENT)))
    known = await client.ask("GET", DIGEST, if_none_match=f'"{DIGEST}"')
    assert known.status == 304


async def test_a_blob_is_verified_in_any_form(store: ShapedStore) -> None:
    """By its bytes, wherever clients are sent for them."""
    damaged = Digest.of(b"as it was")
    await store.blobs.put(damaged, b"as it is")
    findings = await verify(store, lambda step: None, sparse=False, pause=0)
    assert findings.blobs == 3
    assert [problem.name for problem in findings.problems] == [str(damaged)]
