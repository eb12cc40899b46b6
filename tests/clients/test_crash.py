# SPDX-License-Identifier: Apache-2.0
"""A registry that is killed while a client pushes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.commands import wait_until
from tests.clients.conftest import Trial
from tests.clients.images import Kind, Source, make_large
from tests.clients.registry import Registry, running
from tests.clients.tools import Client, login

MEGABYTES = 128


@pytest.fixture
def victim(tmp_path: Path, clients: dict[str, Client]) -> Iterator[Registry]:
    """A registry to kill, to which the clients are logged in."""
    settings = tmp_path / "no-upstreams.json"
    settings.write_text("[]")
    ports = ["--port", "5010", "--push-port", "5011"]
    options = ["--host", "192.0.2.1", *ports, "--upstreams-file", str(settings)]
    with running(tmp_path / "victim", *options) as made:
        for client in clients.values():
            login(client, made.push, made.facts["username"], made.facts["password"])
        yield made


@pytest.fixture(scope="session")
def large(folder: Path) -> Source:
    """An image that takes a while to push."""
    return make_large(folder / "large", MEGABYTES)


def test_killed_in_mid_push(trial: Trial, victim: Registry, large: Source) -> None:
    """After kill -9 and ``up``, what was acknowledged is there and the push can be repeated."""
    skopeo = trial.clients["skopeo"]
    acknowledged = {
        f"{victim.pull}/org/{client.name}:v1": client.push(
            trial.source, Kind.DOCKER, f"{victim.push}/org/{client.name}:v1"
        )
        for client in trial.clients.values()
    }
    kill_in_mid_push(skopeo.pushing(large, Kind.OCI, f"{victim.push}/large:v1"), victim)
    facts = victim.facts
    victim.up()
    assert victim.facts == facts
    for reference, digest in acknowledged.items():
        for client in trial.clients.values():
            assert client.pull(reference).digest == digest
    assert "large" not in victim.repositories()
    pushed = skopeo.push(large, Kind.OCI, f"{victim.push}/large:v1")
    assert trial.clients["podman"].pull(f"{victim.pull}/large:v1").digest == pushed
    trial.ledger.note("skopeo", "repeated a push after the registry was killed in the middle of it")


def test_docker_goes_on_after_a_crash(trial: Trial, victim: Registry, large: Source) -> None:
    """The supervisor starts a server that has crashed again, and docker's push succeeds."""
    docker = trial.clients["docker"]
    reference = f"{victim.push}/by-docker:v1"
    push = docker.pushing(large, Kind.DOCKER, reference)
    with subprocess.Popen(push, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        wait_until(lambda: victim.arriving() > 0, "the push has begun")
        victim.crash()
        output = client.communicate(timeout=90)[0].decode()
    assert client.returncode == 0, output
    assert "Retrying" in output
    digest = "sha256:" + output.rpartition("sha256:")[2].split()[0]
    assert docker.pull(f"{victim.pull}/by-docker:v1").digest == digest
    trial.ledger.note("docker", "went on with a push after the server had crashed")


def kill_in_mid_push(push: list[str], victim: Registry) -> None:
    """Start a push, stop the client when some of the layer is there, and kill the registry."""
    client = subprocess.Popen(push, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: victim.arriving() > 0, "the push has begun")
        os.kill(client.pid, signal.SIGSTOP)
        victim.kill()
        os.kill(client.pid, signal.SIGCONT)
        output = client.communicate(timeout=60)[0].decode()
        assert client.returncode != 0, output
    finally:
        client.kill()
        client.wait()
