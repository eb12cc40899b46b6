# SPDX-License-Identifier: Apache-2.0
"""The Python SDK for docker, by itself and as community.docker has it: by the facts alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError

from tests.clients import daemon
from tests.clients.commands import run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.registry import Registry
from tests.clients.tools import Docker, logged_out

HOSTS = {"docker": "unix:///var/run/docker.sock", "docker-current": daemon.DOCKER_HOST}
#: The modules of the collection, each with the SDK of its own.
PLAY = """
- hosts: all
  gather_facts: false
  module_defaults:
    group/community.docker.docker: {{docker_host: {host}}}
  tasks:
    - community.docker.docker_login:
        registry_url: "{push}"
        username: "{{{{ facts.username }}}}"
        password: "{{{{ facts.password }}}}"
        config_path: "{config}"
    - community.docker.docker_image_push: {{name: "{push}/{image}"}}
      environment: {{DOCKER_CONFIG: "{folder}"}}
    - community.docker.docker_image_remove: {{name: "{push}/{image}"}}
    - community.docker.docker_image_pull: {{name: "{pull}/{image}"}}
      register: pulled
    - copy: {{content: "{{{{ pulled.image.RepoDigests | to_json }}}}", dest: "{folder}/digests"}}
"""


@pytest.fixture(scope="module")
def fresh(folder: Path) -> Iterator[Registry]:
    """A registry whose certificate and credentials only its facts tell."""
    registry = Registry(
        folder / "sdk", ["--host", "192.0.2.1", "--port", "5040", "--push-port", "5041"]
    )
    registry.up()
    for address in (registry.pull, registry.push):
        path = Path("/etc/docker/certs.d", address, "ca.crt")
        path.parent.mkdir(parents=True)
        path.write_text(registry.facts["cert"])
    yield registry
    registry.down()


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, trial: Trial) -> Iterator[str]:
    """A daemon without images, whose user is logged in nowhere."""
    found: Docker = trial.clients[request.param]  # type: ignore[assignment]
    found.clean()
    with logged_out():
        yield HOSTS[request.param]
        (Path.home() / ".docker" / "config.json").unlink(missing_ok=True)
    found.clean()


def load(trial: Trial, host: str, reference: str) -> None:
    """Give the daemon an image to push."""
    run("docker", "--host", host, "load", "--input", trial.source.archive(reference))


def digest(repo_digests: list[str], repository: str) -> str:
    """Tell the digest that an image was pulled by."""
    (found,) = {one.partition("@")[2] for one in repo_digests if one.startswith(repository)}
    return found


def of_registry(trial: Trial, fresh: Registry, image: str) -> str:
    """Tell the digest that skopeo is told."""
    certificates = f"--cert-dir=/etc/docker/certs.d/{fresh.pull}"
    template = ["--format", "{{.Digest}}"]
    return run(
        "skopeo", "inspect", certificates, *template, f"docker://{fresh.pull}/{image}"
    ).strip()


def test_login_push_and_pull(trial: Trial, fresh: Registry, host: str) -> None:
    """As a script does it: nothing but the facts, and the certificate in docker's own folder."""
    client = docker.DockerClient(base_url=host)
    image = f"org/sdk:{'current' if 'current' in host else 'old'}"
    load(trial, host, f"{fresh.push}/{image}")
    user, password = fresh.facts["username"], fresh.facts["password"]
    said = client.login(user, password, registry=fresh.push)
    assert said["Status"] == "Login Succeeded"
    told: list[dict[str, Any]] = list(
        client.images.push(f"{fresh.push}/{image}", stream=True, decode=True)
    )
    assert not [one for one in told if "error" in one], told
    client.images.remove(f"{fresh.push}/{image}", force=True)
    pulled = client.images.pull(f"{fresh.pull}/{image}")
    assert digest(pulled.attrs["RepoDigests"], fresh.pull) == of_registry(trial, fresh, image)
    client.close()
    trial.ledger.introduce("docker SDK", docker.__version__)
    trial.ledger.note("docker SDK", "logged in, pushed and pulled by the facts")


def test_a_wrong_password_is_refused(fresh: Registry, host: str) -> None:
    """At the login, and at a push without one."""
    client = docker.DockerClient(base_url=host)
    with pytest.raises(APIError, match=r"unauthorized|401|authentication required"):
        client.login(fresh.facts["username"], "wrong", registry=fresh.push)
    client.close()


@pytest.fixture
def pushed(trial: Trial) -> str:
    """The digest of an image that has a name of Docker Hub."""
    return trial.push("skopeo", Kind.DOCKER, "docker.io/org/by-sdk:v1")


def test_pull_by_a_public_name(trial: Trial, pushed: str, host: str) -> None:
    """The buildset's image comes by the name that it has at Docker Hub."""
    client = docker.DockerClient(base_url=host)
    pulled = client.images.pull("org/by-sdk:v1")
    assert digest(pulled.attrs["RepoDigests"], "org/by-sdk") == pushed
    client.close()
    trial.ledger.note("docker SDK", "pulled a pushed image by its name at Docker Hub")


def test_the_modules_of_the_collection(
    trial: Trial, fresh: Registry, host: str, tmp_path: Path
) -> None:
    """community.docker logs in, pushes, removes and pulls."""
    image = f"org/modules:{'current' if 'current' in host else 'old'}"
    load(trial, host, f"{fresh.push}/{image}")
    names = {"host": host, "push": fresh.push, "pull": fresh.pull, "image": image}
    places = {"config": tmp_path / "config.json", "folder": tmp_path}
    play, variables = tmp_path / "play.yml", tmp_path / "variables.json"
    play.write_text(PLAY.format(**names, **places))
    variables.write_text(json.dumps({"facts": fresh.facts}))
    program = Path(os.environ["EXAMPLES_ANSIBLE"], "bin", "ansible-playbook")
    python = f"ansible_python_interpreter={program.parent / 'python'}"
    words = ["-i", "node,", "-c", "local", "-e", f"@{variables}", "-e", python]
    run(program, *words, play)
    digests = json.loads((tmp_path / "digests").read_text())
    assert digest(digests, fresh.pull) == of_registry(trial, fresh, image)
    trial.ledger.note("community.docker", "logged in, pushed and pulled by the facts")
