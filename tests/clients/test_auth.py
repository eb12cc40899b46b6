# SPDX-License-Identifier: Apache-2.0
"""Who may do what, as the clients see it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.clients import tools
from tests.clients.commands import refused
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.registry import Registry, trust
from tests.clients.tools import logged_out, login, login_command

EVERY = tuple(tools.PUSHES)
#: How clients say that a registry answered 401.
UNAUTHORIZED = ("401", "invalid username/password", "unauthorized", "authentication required")
#: How clients say that they don't know who signed a certificate.
UNKNOWN_AUTHORITY = "certificate signed by unknown authority"
ALIAS = "zuul-jobs.buildset-registry"


def assert_unauthorized(said: str) -> None:
    """Check that a client was refused for its credentials, and by nothing else."""
    assert any(words in said for words in UNAUTHORIZED), said


@pytest.mark.parametrize("name", EVERY)
def test_a_client_says_that_the_password_is_wrong(trial: Trial, name: str) -> None:
    """A wrong password is answered with 401, and the client says so."""
    user = trial.registry.facts["username"]
    assert trial.registry.status_of(user, trial.registry.facts["password"]) == 200
    assert trial.registry.status_of(user, "wrong") == 401
    with logged_out():
        said = refused(
            *login_command(trial.clients[name], trial.registry.push, user), stdin="wrong"
        )
    assert_unauthorized(said)
    trial.ledger.note(name, "was refused", "a login with a wrong password")


@pytest.mark.parametrize("name", EVERY)
def test_push_without_login(trial: Trial, name: str) -> None:
    """Pushing needs a login."""
    push = trial.clients[name].pushing(
        trial.source, Kind.DOCKER, f"{trial.registry.push}/org/{name}-denied:v1"
    )
    with logged_out():
        said = refused(*push)
    # docker says this when it has no credentials to try, and asks nothing.
    assert "log in to this registry first" in said or "no basic auth credentials" in said, said
    assert f"org/{name}-denied" not in trial.registry.repositories()
    trial.ledger.note(name, "was refused", "a push without a login")


@pytest.mark.parametrize("name", EVERY)
def test_push_to_pull_endpoint(trial: Trial, name: str) -> None:
    """The pull endpoint takes nothing, and the client shows where to push instead."""
    facts = trial.registry.facts
    push = trial.clients[name].pushing(
        trial.source, Kind.DOCKER, f"{trial.registry.pull}/org/{name}-misled:v1"
    )
    with logged_out():
        login(trial.clients[name], trial.registry.pull, facts["username"], facts["password"])
        said = refused(*push)
    assert f"port {facts['push_port']}" in said or "403" in said, said
    assert f"org/{name}-misled" not in trial.registry.repositories()
    trial.ledger.note(name, "was refused", "a push to the pull endpoint")


@pytest.mark.parametrize("name", EVERY)
def test_certificate_is_verified(trial: Trial, name: str) -> None:
    """A client refuses the certificate until it is told to trust it, then for the alias, too."""
    address = f"{ALIAS}:{trial.registry.facts['port']}"
    pushed = trial.push(name, Kind.DOCKER, f"org/{name}-alias:v1")
    said = refused(*trial.clients[name].pulling(f"{address}/org/{name}-alias:v1"))
    assert UNKNOWN_AUTHORITY in said, said
    with trust(address, trial.registry.facts["cert"]):
        assert trial.clients[name].pull(f"{address}/org/{name}-alias:v1").digest == pushed
    trial.ledger.note(name, "verified TLS")


@pytest.mark.parametrize("name", ["docker", "docker-current"])
def test_docker_hub_credentials(trial: Trial, name: str) -> None:
    """docker sends its mirror the credentials of Docker Hub (moby#30880): it pulls all the same."""
    docker = trial.clients[name]
    pushed = trial.push(name, Kind.DOCKER, "org/mirrored:v1")
    pair = base64.b64encode(b"hub-user:hub-password").decode()
    settings = Path.home() / ".docker" / "config.json"
    with logged_out():
        settings.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": pair}}}))
        pulled = docker.pull("org/mirrored:v1")
        settings.unlink()
    assert pulled.digest == pushed
    trial.ledger.note(name, "pulled through its mirror with Docker Hub's credentials")


@pytest.mark.parametrize("name", EVERY)
def test_a_client_with_foreign_credentials_pulls(trial: Trial, name: str) -> None:
    """A client that is logged in with another registry's credentials pulls all the same."""
    pushed = trial.push(name, Kind.DOCKER, f"org/{name}-foreign:v1")
    with logged_out():
        login(trial.clients[name], trial.registry.pull, "hub-user", "hub-password")
        pulled = trial.pull(name, f"org/{name}-foreign:v1")
    assert pulled.digest == pushed
    trial.ledger.note(name, "pulled with credentials of another registry")


@pytest.mark.parametrize("name", EVERY)
def test_one_port_takes_a_login_and_a_push(trial: Trial, single: Registry, name: str) -> None:
    """One port takes a login and a push, and gives the image to everybody."""
    client, facts = trial.clients[name], single.facts
    reference = f"{single.push}/org/{name}:v1"
    assert single.push == single.pull
    with logged_out():
        said = refused(*login_command(client, single.push, facts["username"]), stdin="wrong")
        assert_unauthorized(said)
        said = refused(*client.pushing(trial.source, Kind.DOCKER, reference))
        assert "denied" in said or any(words in said for words in UNAUTHORIZED), said
        login(client, single.push, facts["username"], facts["password"])
        pushed = client.push(trial.source, Kind.DOCKER, reference)
    with logged_out():
        pulled = {other.name: other.pull(reference).digest for other in trial.clients.values()}
    assert set(pulled.values()) == {pushed}
    trial.ledger.note(name, "logged in, pushed and pulled at a single port")
