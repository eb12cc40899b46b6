# SPDX-License-Identifier: Apache-2.0
"""The builder within dockerd, which up to docker 24 has the mirrors of dockerd's start."""

from __future__ import annotations

import time
from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.node import ManagedNode

from tests.use.places import Place, make_setup

OLD, NEW = "1.43", "1.44"
#: Answers what docker is asked of its version, of containers, and of proxies.
DOCKER = """#!/bin/sh
case "$*" in version*) echo {api} ;; *Running*) echo {containers} ;; *) echo '"" ""' ;; esac
"""


@pytest.fixture
def restarts(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The restarts of a dockerd that was started a minute ago."""
    begun = [time.time() - 60]
    monkeypatch.setattr(ManagedNode, "started", lambda _self, name: begun[-1])
    monkeypatch.setattr(
        "buildset_clients.clients.base.execute", lambda *_words: begun.append(time.time() + 1)
    )
    return begun


def use(place: Place, api: str = OLD, containers: str = "0 false", **more: Any) -> dict[str, Any]:
    """Configure docker of a version, in which containers run."""
    place.write("/bin/docker", DOCKER.format(api=api, containers=containers), 0o755)
    commands = more.pop("commands", {"docker": "restart-docker"})
    order = main.Order(clients=["docker"], store=False, commands=commands, **more)
    return main.use(order, make_setup(), place.node)


@pytest.mark.parametrize("containers", ["0 false", "3 true"])
def test_a_dockerd_in_which_nothing_ends_is_restarted_once(
    place: Place, restarts: list[float], containers: str
) -> None:
    """Nothing runs in it, or outlives it by ``live-restore``; the second run has nothing to do."""
    assert use(place, containers=containers)["notes"] == []
    assert len(restarts) == 2
    assert use(place, containers=containers)["notes"] == []
    assert len(restarts) == 2


def test_containers_go_on_and_what_builds_get_is_told(place: Place, restarts: list[float]) -> None:
    """At every run, until it is restarted: by somebody, or by the role when they have ended."""
    for _run in range(2):
        (note,) = use(place, containers="3 false")["notes"]
        assert "builds by BuildKit have the mirrors of before" in note
        assert "ends the containers that run (3)" in note
    assert len(restarts) == 1
    assert use(place)["notes"] == []
    assert len(restarts) == 2


def test_a_dockerd_that_is_no_service_is_told(
    place: Place, restarts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable that says how to restart it."""
    monkeypatch.setattr(ManagedNode, "processes", lambda _self, _name: {2**22: []})
    monkeypatch.setattr("os.kill", lambda *_sent: None)
    (note,) = use(place, commands={})["notes"]
    assert "mirrors of before until dockerd is restarted; docker runs, but is no service" in note
    assert "buildset_registry_restart_commands.docker" in note


@pytest.mark.parametrize("api", [NEW, "1.100", "none"])
def test_a_docker_that_reads_at_every_build_is_left_alone(
    place: Place, restarts: list[float], api: str
) -> None:
    """From docker 25 on; so is one whose version nobody can tell."""
    assert use(place, api=api)["notes"] == []
    assert len(restarts) == 1


def test_undoing_reaches_the_builder(place: Place, restarts: list[float]) -> None:
    """It asks the registry no more; a node that never used one is left alone."""
    main.restore(main.Order(commands={"docker": "restart-docker"}), place.node)
    assert len(restarts) == 1
    use(place)
    restarts.append(time.time() - 30)
    main.restore(main.Order(commands={"docker": "restart-docker"}), place.node)
    assert len(restarts) == 4


def test_a_dry_run_restarts_nothing(place: Place, restarts: list[float]) -> None:
    """Nor does it tell of what it has not changed."""
    assert use(place, dry=True)["notes"] == []
    assert len(restarts) == 1
