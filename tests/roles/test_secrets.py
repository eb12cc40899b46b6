# SPDX-License-Identifier: Apache-2.0
"""No password in any output, however much is asked for, in success and in failure."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.harness import Desk

ROLE = "run_buildset_registry"
UPSTREAM_PASSWORD = "upstream-password-not-to-be-seen"
UPSTREAM = {
    "name": "registry.example.com",
    "url": "https://registry.example.com",
    "username": "ci",
    "password": UPSTREAM_PASSWORD,
}


@pytest.mark.parametrize("version", ["2.16", "2.18", "newest"])
def test_nothing_is_told_at_any_verbosity(make_desk: MakeDesk, version: str) -> None:
    """Starting, starting again, checking, reusing and stopping tell no password."""
    desk = make_desk(version)
    output = ""
    variables: dict[str, Any] = {"buildset_registry_upstreams": [UPSTREAM]}
    first = desk.role(ROLE, "-vvv", "--diff", **variables)
    assert first.facts, first.output
    for options in (["-vvv", "--diff"], ["-vvv", "--check", "--diff"]):
        run = desk.role(ROLE, *options, **variables)
        assert run.code == 0, run.output
        output += run.output
    reused = desk.role(ROLE, "-vvv", buildset_registry=first.facts)
    assert reused.code == 0, reused.output
    stopped = desk.role(ROLE, "-vvv", buildset_registry_state="stopped")
    dead = desk.role(ROLE, "-vvv", buildset_registry=first.facts)
    assert dead.code != 0
    output += first.output + reused.output + stopped.output + dead.output
    assert first.facts["password"] not in output
    assert UPSTREAM_PASSWORD not in output


def test_nothing_is_told_by_a_failure(desk: Desk) -> None:
    """A mistake in the variables, and a registry that does not start, tell no password."""
    upstreams = [UPSTREAM]
    wrong = desk.role(ROLE, "-vvv", buildset_registry_upstreams=[{**UPSTREAM, "public": "perhaps"}])
    assert wrong.code != 0
    assert UPSTREAM_PASSWORD not in wrong.output
    port = free_port()
    ports = {"buildset_registry_port": port, "buildset_registry_push_port": port}
    failed = desk.role(ROLE, "-vvv", buildset_registry_upstreams=upstreams, **ports)
    assert failed.code != 0
    assert UPSTREAM_PASSWORD not in failed.output


def test_module_masks_the_password_where_the_task_does_not(desk: Desk) -> None:
    """A task without no_log shows no password either."""
    facts = desk.role(ROLE).facts
    assert facts
    root = desk.variables["buildset_registry_root"]
    command = f"{desk.variables['buildset_registry_venv']}/bin/buildset-registry"
    options = {"root": root, "command": command}
    started = {**options, "host": "127.0.0.1", "port": facts["port"]}
    started.update({"push_port": facts["push_port"], "supervisor": "process"})
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"buildset_registry": started, "register": "result"},
            {"buildset_registry_info": options, "register": "status"},
            {"ansible.builtin.debug": {"var": "status.status.facts.password"}},
        ],
    }
    desk.settings["ANSIBLE_LIBRARY"] = str(desk.roles / ROLE / "library")
    desk.settings["ANSIBLE_MODULE_UTILS"] = str(desk.roles / ROLE / "module_utils")
    run = desk.playbook(desk.write("open.yml", [play]), "-vvv")
    assert run.code == 0, run.output
    assert facts["password"] not in run.output
    assert "set no_log to true" in run.output


def test_nothing_is_readable_for_others(desk: Desk) -> None:
    """No file that holds the password can be read by other users."""
    facts = desk.role(ROLE, buildset_registry_upstreams=[UPSTREAM]).facts
    assert facts
    for path in Path(desk.variables["buildset_registry_root"]).rglob("*"):
        if path.is_file() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            content = path.read_bytes()
            assert facts["password"].encode() not in content, path
            assert UPSTREAM_PASSWORD.encode() not in content, path


def test_nothing_is_on_a_command_line(desk: Desk) -> None:
    """The processes of the registry can be listed by every user."""
    facts = desk.role(ROLE, buildset_registry_upstreams=[UPSTREAM]).facts
    assert facts
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue  # it has ended
        assert facts["password"].encode() not in line
        assert UPSTREAM_PASSWORD.encode() not in line
