# SPDX-License-Identifier: Apache-2.0
"""What nobody waits for: a background task that fails says so, and goes on."""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.background import stop, supervised
from buildset_registry.errors import ConfigError
from buildset_registry.gc import CollectionReport, Collector, collector
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.server.control_socket import ControlSocket, ask_server
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.store.filesystem.wal import WriteAheadLog

from tests.unit.gc.images import RULES, silent

NAME = RepositoryName("org/app")


async def untold() -> dict[str, Any]:
    """Tell nothing of a process."""
    return {}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    async with aclosing(FilesystemStore(tmp_path / "store")) as made:
        yield made


async def test_a_task_that_fails_says_so_and_is_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In one line, and later each time; to stop it is no error."""
    runs, well = [], asyncio.Event()

    async def work() -> None:
        runs.append(time.monotonic())
        if len(runs) < 4:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid\nstart byte")
        well.set()
        await asyncio.sleep(60)

    task = supervised("the work", work, 0.02)
    await asyncio.wait_for(well.wait(), 60)
    messages = [record.getMessage() for record in caplog.records]
    told = [message.rpartition("; again in ")[2] for message in messages]
    assert told == ["0.02 s", "0.04 s", "0.08 s"]
    # How much longer it takes is the machine's business; timers may be early by their resolution.
    for pause, earlier, later in zip((0.02, 0.04, 0.08), runs, runs[1:], strict=False):
        assert later - earlier > 0.9 * pause
    assert messages[0].startswith("the work failed: UnicodeDecodeError: 'utf-8' codec")
    assert "test_background.py:" in messages[0]
    assert not any("\n" in message for message in messages)
    await stop(task)
    assert task.cancelled()


async def test_a_collector_goes_on_and_tells_a_command_what_failed(
    store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is not taken for a command of another version."""
    real, failing = collector.collect, asyncio.Event()
    collected = asyncio.Event()

    async def fail(*_arguments: Any, **_more: Any) -> CollectionReport:
        failing.set()
        raise ValueError("nobody foresaw it")

    async def collect(*arguments: Any, **more: Any) -> CollectionReport:
        collected.set()
        return await real(*arguments, **more)

    monkeypatch.setattr(collector, "collect", fail)
    monkeypatch.setattr(collector, "supervised", partial(supervised, pause=0.01))
    made = Collector(store, replace(RULES, grace=0), 0.01)
    await asyncio.wait_for(failing.wait(), 60)
    control = ControlSocket(made, untold, tmp_path / "control")
    await control.listen()
    with pytest.raises(ConfigError, match="the collection failed: ValueError: nobody foresaw it"):
        await ask_server(tmp_path / "control", silent, dry_run=False)
    monkeypatch.setattr(collector, "collect", collect)
    await asyncio.wait_for(collected.wait(), 60)
    assert await ask_server(tmp_path / "control", silent, dry_run=False) is not None
    await control.close()
    await made.close()


@pytest.mark.parametrize("asked", [{}, {"dry_run": "yes"}, [], "gc"])
async def test_another_version_of_the_command_is_told_so(
    store: FilesystemStore, tmp_path: Path, asked: object
) -> None:
    made = Collector(store, RULES, 0)
    control = ControlSocket(made, untold, tmp_path / "control")
    await control.listen()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
    writer.write(json.dumps(asked).encode() + b"\n")
    assert b"another version" in await reader.readline()
    writer.close()
    await control.close()


async def test_changes_go_on_when_no_thread_could_be_made_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first change nor the end of a log leaves those waiting who come later."""
    real = threading.Thread.start

    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    digest = Digest.of(b"one")
    store = FilesystemStore(tmp_path / "store")
    monkeypatch.setattr("buildset_registry.store.filesystem.wal._IDLE", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        with pytest.raises(OSError, match="no thread can be made"):
            await store.blobs.put(digest, b"one")
    await store.blobs.put(digest, b"one")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        await asyncio.sleep(0.3)  # the log ends, and nothing else can sync it
    assert threading.Thread.start is real
    await asyncio.wait_for(store.blobs.put(Digest.of(b"two"), b"two"), 60)
    await store.aclose()
    assert not list((tmp_path / "store/log").iterdir())


async def test_an_error_that_nobody_foresaw_reaches_who_waits_for_a_change(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next one waits for nothing."""

    def wrong(*_arguments: object) -> bool:
        raise ValueError("nobody foresaw it")

    for name in ("_record", "_take"):
        with monkeypatch.context() as patched:
            patched.setattr(WriteAheadLog, name, wrong)
            change = asyncio.ensure_future(store.pushed(NAME).layers.add(Digest.of(name.encode())))
            with pytest.raises(ValueError, match="nobody foresaw"):
                await asyncio.wait_for(change, 60)
        await asyncio.wait_for(store.pushed(NAME).layers.add(Digest.of(b"next")), 60)
    assert "the log of" in caplog.text


def test_the_log_goes_on_when_its_disk_has_room_again(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be written is lost, and counted."""
    from buildset_registry.http.accesslog import AccessLog

    class Disk(StringIO):
        full = False
        asked = asyncio.Event()

        def write(self, text: str) -> int:
            self.asked.set()
            if self.full:
                raise OSError(28, os.strerror(28))
            return super().write(text)

    class Asked:
        method, url, registry, route, client, received = "GET", "/v2/", "", "", "127.0.0.1", 0

        class identity:
            name = "ann"

        def __init__(self, agent: str) -> None:
            self.headers = {"user-agent": agent}

    async def log() -> str:
        disk = Disk()
        access = AccessLog(disk)
        for agent, full in (("before", False), ("lost", True), ("lost", True), ("again", False)):
            disk.full = full
            access.add(Asked(agent), 200, 0, 0.1)  # type: ignore[arg-type]  # as far as it is used
            await asyncio.wait_for(disk.asked.wait(), 60)
            disk.asked.clear()
        return disk.getvalue()

    with caplog.at_level(logging.ERROR):
        written = asyncio.run(log())
    assert [line.split('"')[-2] for line in written.splitlines()] == ["before", "again"]
    assert "2 lines of the access log are lost" in caplog.text


@pytest.mark.parametrize("end", ["half a line", "a reset"])
async def test_a_server_that_is_killed_in_the_middle_of_its_report_is_told(
    tmp_path: Path, end: str
) -> None:
    """Its last line may be half there, and its socket may be reset."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if end == "half a line":
            await reader.readline()
        writer.write(b'{"progress": {"stage": "blobs", "done": 0, "total": 1}}\n{"rep')
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_unix_server(answer, tmp_path / "control"):
        with pytest.raises(ConfigError, match="stopped before the collection was done"):
            await ask_server(tmp_path / "control", silent, dry_run=False)
