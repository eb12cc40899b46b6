# SPDX-License-Identifier: Apache-2.0
"""A registry that is started anew while clients come: who connects meanwhile waits."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instance.conftest import Desk
from tests.ports import free_port
from tests.waiting import wait_until

CLIENTS = 3


@contextlib.contextmanager
def asking(desk: Desk, facts: dict[str, Any]) -> Iterator[list[int]]:
    """Ask again and again, by a new connection each time; yields what was answered."""
    ended, answers, failures = threading.Event(), list[int](), list[str]()

    def loop() -> None:
        while not ended.is_set():
            try:
                answers.append(desk.ask(facts).status)
            except OSError as error:
                failures.append(f"{time.strftime('%X')} {error!r}")

    clients = [threading.Thread(target=loop) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert not failures, failures


def write_comment(desk: Desk) -> None:
    """Change the configuration, so that the next ``up`` starts the registry anew."""
    with (desk.root / "config.yaml").open("a") as config:
        config.write("# changed\n")


def test_nobody_is_refused_while_it_is_started_anew(desk: Desk) -> None:
    """With connections that come in a stream, of which most hit the time between two servers."""
    facts = desk.up()["facts"]
    before = desk.status()["pid"]
    with asking(desk, facts) as answers:
        write_comment(desk)
        assert desk.up()["changes"] == ["restarted"]
    assert desk.status()["pid"] != before
    assert set(answers) == {200}
    assert not (desk.root / "data" / "ports").exists()


def test_a_port_that_is_left_is_free(desk: Desk) -> None:
    """What the next server does not want is not held; the other one is."""
    facts = desk.up()["facts"]
    moved = free_port()
    again = desk.up("--port", facts["port"], "--push-port", moved)["facts"]
    assert desk.ask(again).status == 200
    assert desk.ask(again, which="push_").status == 401
    with pytest.raises(ConnectionRefusedError):
        desk.ask(facts, which="push_")


def test_a_start_that_fails_is_told_by_the_line_of_the_server(desk: Desk, tmp_path: Path) -> None:
    """And at once; the configuration before is put back and served, on the same ports."""
    facts = desk.up()["facts"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        metrics = {"port": other.getsockname()[1], "address": "127.0.0.1"}
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"metrics": metrics}))
        words = ["--host", "127.0.0.1", "--supervisor", "process", "--settings-file", settings]
        assert f"cannot listen on metrics port {metrics['port']}" in desk.refused("up", *words)
    wait_until(lambda: desk.status()["answers"], "the one before serves")
    assert desk.ask(facts).status == 200
    assert not (desk.root / "data" / "ports").exists()


def test_a_socket_that_a_killed_command_left_is_no_obstacle(desk: Desk) -> None:
    """Nobody listens there any more: the server opens its ports itself."""
    facts = desk.up()["facts"]
    desk.run("down")
    (desk.root / "data" / "ports").touch()
    assert desk.up()["facts"] == facts
    write_comment(desk)
    desk.up()
    assert desk.ask(facts).status == 200
    assert not (desk.root / "data" / "ports").exists()
