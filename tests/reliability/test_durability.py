# SPDX-License-Identifier: Apache-2.0
"""What a power cut would find: nothing leaves before it is on disk, by strace's account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reliability.server import OCI_MANIFEST, Answer, Server, digest_of, manifest
from tests.reliability.trace import Call, Trace, parse, prefix

CONFIG = b"{}"
LAYER = b"layer" * 1000
LARGE = b"large" * 100_000
TOP = "docker/registry/v2"


class Watched:
    """A registry below strace, and one client that asks it one thing at a time."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._trace = Trace(folder / "trace")
        self.client = server.client()

    def request(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[Answer, list[Call]]:
        """Send a request; return its answer and what the registry did up to it."""
        self.client.ask("GET", "/v2/")
        port = self.client.connection.sock.getsockname()[1]
        self._trace.begin()
        answer = self.client.ask(method, path, body, {"Content-Type": OCI_MANIFEST})
        return answer, self._trace.until_answer(port)

    def renames(self, calls: list[Call]) -> Iterator[tuple[Call, Path, Path]]:
        for call in calls:
            if call.name.startswith("rename") and not call.failed:
                source, target = map(Path, call.paths)
                yield call, source, target

    def require_durable(self, calls: list[Call]) -> set[str]:
        """Check that what appeared in the store, or went, was on disk before; return its names.

        Either a record of it was synced in the log before it appeared; or the file was, and its
        folder before the answer.
        """
        answer, top = calls[-1], self.server.storage / TOP
        appeared = set()
        for call, source, target in self.renames(calls):
            if top in target.parents:
                record = self._record(calls, target, call.began)
                assert record, f"{target} was not recorded"
                if source.name == "data" and not _holds_content(record, target):
                    assert _synced(calls, source, -1, call.began), f"{target} was not synced"
                    for place, folder in _changed_for(calls, call, target):
                        assert _synced(calls, folder, place, answer.began), f"{folder} was not"
                appeared.add(str(target.relative_to(top)))
            if top in source.parents and top not in target.parents:
                assert self._record(calls, source, answer.began), f"{source}: not recorded"
        return appeared

    def _record(self, calls: list[Call], path: Path, before: int) -> str:
        """Return what was written to the log of a path, if the log was synced then."""
        named = str(path.relative_to(self.server.storage))
        for call in calls:
            if call.name == "pwrite64" and named in call.arguments:
                log = Path(call.descriptor)
                if log.parent == self.server.storage / "log":
                    return call.arguments if _synced(calls, log, call.ended, before) else ""
        return ""


def _holds_content(record: str, target: Path) -> bool:
    """Tell whether a record has the content of a small blob, and not only its name."""
    return any(
        str(target).endswith(blob_path(content)) and content[:20].decode() in record
        for content in (CONFIG, LAYER)
    )


def _changed_for(calls: list[Call], rename: Call, target: Path) -> Iterator[tuple[int, Path]]:
    """Yield the folders that a large file made changes in, and when."""
    yield rename.ended, target.parent
    for call in calls:
        if call.name.startswith("mkdir") and not call.failed:
            made = Path(call.paths[0])
            if made in target.parents:
                yield call.ended, made.parent


def _synced(calls: list[Call], path: Path, after: int, before: int) -> bool:
    """Tell whether a file or folder was synced between two places in the order of calls."""
    return any(
        call.name in ("fsync", "fdatasync")
        and not call.failed
        and call.descriptor == str(path)
        and after < call.began <= call.ended < before
        for call in calls
    )


@pytest.fixture
def watched(serve: Callable[..., Server], tmp_path: Path) -> Watched:
    """A registry whose calls are noted."""
    server = serve(below=prefix(tmp_path / "trace"))
    return Watched(server, tmp_path)


def blob_path(content: bytes) -> str:
    hexadecimal = digest_of(content)[7:]
    return f"blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"


def push_blob(watched: Watched, content: bytes) -> set[str]:
    """Push a blob and return what it left in the store."""
    started = watched.client.ask("POST", "/v2/app/blobs/uploads/")
    place = f"{started.headers['Location']}?digest={digest_of(content)}"
    answer, calls = watched.request("PUT", place, content)
    assert answer.status == 201
    return watched.require_durable(calls)


def test_no_answer_leaves_before_what_it_promises_is_on_disk(watched: Watched) -> None:
    """For a blob, a manifest, a tag, a tag that moves, and deletes: the files and their folders."""
    hexadecimal = digest_of(LAYER)[7:]
    left = push_blob(watched, LAYER)
    assert {blob_path(LAYER), f"repositories/app/_layers/sha256/{hexadecimal}/link"} <= left
    push_blob(watched, CONFIG)
    assert blob_path(LARGE) in push_blob(watched, LARGE)
    for raw in (manifest(CONFIG, LAYER), manifest(CONFIG)):
        digest = digest_of(raw)
        answer, calls = watched.request("PUT", f"/v2/app/manifests/{digest}", raw)
        assert answer.status == 201
        revision = f"repositories/app/_manifests/revisions/sha256/{digest[7:]}/link"
        assert {blob_path(raw), revision} <= watched.require_durable(calls)
        answer, calls = watched.request("PUT", "/v2/app/manifests/v1", raw)
        assert answer.status == 201
        tag = "repositories/app/_manifests/tags/v1/current/link"
        assert tag in watched.require_durable(calls)
    for reference in ("v1", digest_of(manifest(CONFIG, LAYER))):
        answer, calls = watched.request("DELETE", f"/v2/app/manifests/{reference}")
        assert answer.status == 202
        watched.require_durable(calls)
        assert any(watched.renames(calls))


def test_a_blob_that_is_here_already_is_made_durable_again(watched: Watched) -> None:
    """Another client may have pushed it a moment ago, and not have its answer yet."""
    for content in (LAYER, LARGE):
        push_blob(watched, content)
        assert blob_path(content) in push_blob(watched, content)


TRACE = """\
10 fsync(7</data/tmp/a> <unfinished ...>
11 write(9<TCP:[127.0.0.1:5000->127.0.0.1:4000]>, "x", 1) = 1
10 <... fsync resumed>) = 0
10 rename("/data/tmp/a", "/data/b") = -1 ENOENT (No such file or directory)
"""


def test_what_strace_writes_is_understood() -> None:
    """Calls that overlap are told apart, and so are those that failed."""
    sync, write, rename = parse(TRACE)
    assert (sync.descriptor, sync.began, sync.ended, sync.failed) == ("/data/tmp/a", 0, 2, False)
    assert write.descriptor == "TCP:[127.0.0.1:5000->127.0.0.1:4000]"
    assert (rename.paths, rename.failed) == (["/data/tmp/a", "/data/b"], True)
