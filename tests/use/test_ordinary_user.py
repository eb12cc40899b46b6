# SPDX-License-Identifier: Apache-2.0
"""A node whose daemons are root's, and a user who is not: none is left out silently."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.errors import ClientError
from buildset_clients.node import Account, ManagedNode

from tests.use.places import Place, make_setup

#: A user whom nobody is.
SOMEBODY = Account("somebody", 54_321, 54_321, "/nonexistent")


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that root runs on the node."""
    running = ["dockerd"]
    monkeypatch.setattr(ManagedNode, "is_of_another", lambda self, program: program in running)
    return running


def use(place: Place, **choices: Any) -> dict[str, Any]:
    """Configure the node by the choices of a user."""
    return main.use(main.Order(**choices), make_setup(), place.node)


@contextmanager
def process(program: str) -> Iterator[None]:
    """Run a process that is called so."""
    words = [program, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE) as running:
        assert running.stdout
        running.stdout.readline()
        try:
            yield
        finally:
            running.kill()


def test_a_daemon_that_would_be_left_out_is_an_error(
    users_place: Place, daemons: list[str]
) -> None:
    """It names the daemon and both ways out; nothing is written."""
    before = users_place.tree()
    with pytest.raises(ClientError, match=r"docker: .*become: true.*buildset_registry_become: "):
        use(users_place)
    assert users_place.tree() == before


@pytest.mark.parametrize("choices", [{"as_user": True}, {"clients": ["containers", "docker"]}])
def test_who_chose_so_is_told_all_the_same(
    users_place: Place, daemons: list[str], choices: dict[str, Any]
) -> None:
    """A note; the user's own tools are configured."""
    told = use(users_place, **choices)
    assert [note for note in told["notes"] if note.startswith("docker: the daemon is root's")]
    assert users_place.read("/home/someone/.docker/config.json")


@pytest.mark.parametrize("program", ["containerd", "crio", "k3s", "rke2", "buildkitd"])
def test_every_daemon_counts(users_place: Place, daemons: list[str], program: str) -> None:
    """Each row of the table that has one."""
    daemons[:] = [program]
    with pytest.raises(ClientError, match="the daemon is root's"):
        use(users_place)


def test_without_such_a_daemon_the_user_s_own_tools_are_configured(
    users_place: Place, daemons: list[str]
) -> None:
    """A program that is installed and does not run is none."""
    daemons.clear()
    users_place.write("/bin/dockerd", "", 0o755)
    assert use(users_place)["clients"] == ["docker"]


def test_root_leaves_nothing_out(place: Place, daemons: list[str]) -> None:
    """Whoever else runs it."""
    use(place)


@pytest.mark.parametrize("client", ["containerd", "k3s", "rke2", "microk8s"])
def test_a_client_of_the_whole_node_is_refused_to_a_user(users_place: Place, client: str) -> None:
    """It would fail where root alone may write, and not say why."""
    with pytest.raises(ClientError, match=f"{client} can be configured by root only; become root"):
        use(users_place, clients=[client])


def test_a_canary_that_fails_names_the_daemon_that_is_root_s(
    users_place: Place, daemons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is likely to be the reason."""

    def fail(*_given: object) -> list[str]:
        raise ClientError("canary: docker: it has no mirror")

    monkeypatch.setattr("buildset_clients.canary.run.prove", fail)
    with pytest.raises(ClientError, match=r"no mirror; docker: the daemon is root's.* become root"):
        use(users_place, clients=["docker"], canary=True)


def test_a_process_of_another_user_is_seen() -> None:
    """By its owner; one's own is none."""
    program = f"daemon-{os.getpid()}"
    mine = replace(ManagedNode.here([]), root=Path("/"))
    theirs = replace(mine, accounts=(SOMEBODY,))
    with process(f"/usr/bin/{program}"):
        assert theirs.is_of_another(program)
        assert not mine.is_of_another(program)
        assert not replace(theirs, root=Path("/proc")).is_of_another(program)
    assert not theirs.is_of_another(program)


def test_a_socket_is_a_daemon_that_is_not_yet_wanted(
    users_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd listens for dockerd; a link is podman's stand-in for it."""
    (users_place.root / "run").mkdir()
    theirs = replace(users_place.node, accounts=(SOMEBODY,))
    path = users_place.root / "run" / "docker.sock"
    assert not theirs.is_socket_of_another("/run/docker.sock")
    monkeypatch.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("docker.sock")
    assert theirs.is_socket_of_another("/run/docker.sock")
    assert not users_place.node.is_socket_of_another("/run/docker.sock")
    path.rename(path.with_name("podman.sock"))
    path.symlink_to("podman.sock")
    assert not theirs.is_socket_of_another("/run/docker.sock")
