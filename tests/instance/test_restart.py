# SPDX-License-Identifier: Apache-2.0
"""A registry that is started anew while clients come: who connects meanwhile waits."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.instance.conftest import Desk
from tests.ports import free_port
from tests.pulling import repeating
from tests.waiting import wait_until

CLIENTS = 3


def write_comment(desk: Desk) -> None:
    """Change the configuration, so that the next ``up`` starts the registry anew."""
    with (desk.root / "config.yaml").open("a") as config:
        config.write("# changed\n")


def test_nobody_is_refused_while_it_is_started_anew(desk: Desk) -> None:
    """With connections that come in a stream, of which most hit the time between two servers."""
    facts = desk.up()["facts"]
    before = desk.status()["pid"]
    answers: list[int] = []
    with repeating(lambda: answers.append(desk.ask(facts).status), CLIENTS):
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


def test_where_no_socket_can_be_made_it_is_started_anew_all_the_same(desk: Desk) -> None:
    """A folder is in the way, as a full disk would be: the ports are not held."""
    facts = desk.up()["facts"]
    (desk.root / "data" / "ports" / "in-the-way").mkdir(parents=True)
    write_comment(desk)
    assert desk.up()["changes"] == ["restarted"]
    assert desk.ask(facts).status == 200
