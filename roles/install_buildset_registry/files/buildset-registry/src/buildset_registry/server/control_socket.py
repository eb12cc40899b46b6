# SPDX-License-Identifier: Apache-2.0
"""The control socket: by it commands ask the server that has the storage folder.

The folder belongs to one process, so ``gc`` cannot collect in it itself while the registry serves;
and what a process knows of itself, it alone can tell to ``status``. A request and each answer is a
line of JSON. Whoever may write to the folder may connect, and nobody else (mode 0600).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket as sockets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from buildset_registry.background import told
from buildset_registry.config import Config
from buildset_registry.errors import ConfigError, StoreInUse
from buildset_registry.gc import AtUpstream, CollectionReport, CollectionRules, Collector, collect
from buildset_registry.progress import Progress, ProgressCallback
from buildset_registry.retention import Leases
from buildset_registry.server.collection import retention_of
from buildset_registry.server.handover import PORTS, send_ports, short_name
from buildset_registry.store import Purpose, open_store, store_kind

#: Returns what a process knows of itself, as plain values.
Tell = Callable[[], Awaitable[dict[str, Any]]]

_log = logging.getLogger("buildset_registry.gc")

#: A line may list every manifest that was removed.
_LINE_BYTES = 256 * 1024 * 1024
_STATUS = "status"
#: Seconds that a server may take to tell its status.
_STATUS_SECONDS = 10.0
#: Seconds to wait for a server that has the folder and does not answer yet.
_WAIT_SECONDS = 5.0
_PAUSE = 0.1


class ControlSocket:
    """The server's end; close it before the collector."""

    def __init__(self, collector: Collector, tell: Tell, path: Path) -> None:
        self._collector = collector
        self._tell = tell
        self._path = path
        self._server: asyncio.Server | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._ports: Sequence[sockets.socket] = ()
        self.handed_over = False
        """Whether somebody holds the ports, and connections may wait."""

    async def listen(self, ports: Sequence[sockets.socket] = ()) -> None:
        """Listen; a socket that a killed server left is replaced. ``ports`` are given away."""
        self._ports = ports
        self._path.unlink(missing_ok=True)
        with short_name(self._path) as address:
            self._server = await asyncio.start_unix_server(self._accept, address)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop; a collection that somebody waits for breaks off."""
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        for task in self._answers:
            task.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._answer(reader, writer))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(kind: str, tree: object) -> None:
            if not writer.is_closing():
                writer.write(json.dumps({kind: tree}).encode() + b"\n")

        try:
            asked = _parse(await reader.readline())
            if asked == _STATUS:
                send("status", await self._tell())
            elif asked == PORTS:
                send_ports(writer.get_extra_info("socket").fileno(), self._ports)
                self.handed_over = True
            elif isinstance(asked, bool):
                report = await self._collector.run(
                    lambda progress: send("progress", asdict(progress)), dry_run=asked
                )
                send("report", report.to_json())
            else:
                send("error", "the command is of another version; restart the server")
            await writer.drain()
        except OSError as error:
            send("error", f"the collection broke off: {error}")
        except Exception as error:
            _log.error("a collection that was asked for failed: %s", told(error))
            send("error", f"the collection failed: {told(error)}")
        finally:
            writer.close()


def _parse(line: bytes) -> bool | str | None:
    """Return whether a command asks for a dry run, or another question; None for neither."""
    try:
        tree = json.loads(line)
        questions = [one for one in (_STATUS, PORTS) if tree.get(one) is True]
        asked = questions[0] if questions else tree["dry_run"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return asked if isinstance(asked, bool | str) else None


async def collect_in(
    config: Config,
    rules: CollectionRules,
    on_progress: ProgressCallback,
    at_upstream: AtUpstream,
    *,
    dry_run: bool,
) -> CollectionReport:
    """Collect in a store: by the server that has it, by its rules, or else here."""
    deadline = time.monotonic() + _WAIT_SECONDS
    socket = store_kind(config).control_socket(config)
    while True:
        report = await ask_server(socket, on_progress, dry_run=dry_run) if socket else None
        if report is not None:
            return report
        try:
            store = await open_store(config, Purpose.COLLECT)
        except StoreInUse:
            # A server that starts or ends has the folder, and no socket.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_PAUSE)
            continue
        async with contextlib.aclosing(store), store.collecting(wait=True):
            retention, leases = retention_of(config, store), Leases(store)
            retaining = replace(rules, retention=retention, leases=leases)
            return await collect(store, retaining, on_progress, at_upstream, dry_run=dry_run)


async def ask_server(
    path: Path, on_progress: ProgressCallback, *, dry_run: bool
) -> CollectionReport | None:
    """Let the server that listens there collect; None where none does."""
    connection = await _connect(path)
    if connection is None:
        return None
    reader, writer = connection
    try:
        writer.write(json.dumps({"dry_run": dry_run}).encode() + b"\n")
        return await _read_report(reader, on_progress)
    finally:
        writer.close()


async def ask_condition(path: Path) -> dict[str, Any] | None:
    """Return what the server that listens there tells of itself; None where none does.

    One of another version may not know the question: it is taken to tell nothing.
    """
    connection = await _connect(path)
    if connection is None:
        return None
    reader, writer = connection
    try:
        writer.write(json.dumps({_STATUS: True}).encode() + b"\n")
        line = await asyncio.wait_for(reader.readline(), _STATUS_SECONDS)
        told_tree = json.loads(line)[_STATUS]
        return told_tree if isinstance(told_tree, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, asyncio.TimeoutError):
        return {}
    finally:
        writer.close()


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to the server that listens there; None where none does."""
    try:
        with short_name(path) as address:
            return await asyncio.open_unix_connection(address, limit=_LINE_BYTES)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise ConfigError(
            f"cannot reach the registry that uses {path.parent}: {error.strerror}; "
            "run this as the user whose registry it is"
        ) from None


async def _read_report(
    reader: asyncio.StreamReader, on_progress: ProgressCallback
) -> CollectionReport:
    while line := await _whole_line(reader):
        answer: dict[str, Any] = json.loads(line)
        if "progress" in answer:
            on_progress(Progress(**answer["progress"]))
        elif "report" in answer:
            return CollectionReport.from_json(answer["report"])
        else:
            raise ConfigError(f"the registry says: {answer['error']}")
    raise ConfigError("the registry stopped before the collection was done; collect again")


async def _whole_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line; nothing of one in the middle of which the server was killed."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return b""
    return line if line.endswith(b"\n") else b""
