# SPDX-License-Identifier: Apache-2.0
"""The playbooks that the documentation shows, as they are, on a registry that nothing trusts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomllib  # type: ignore[import-not-found, unused-ignore]  # the tiers run on 3.11
import yaml

from tests.clients.commands import run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.registry import Registry
from tests.clients.tools import logged_out

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

REGISTRIES = Path("/etc/containers/registries.conf.d")

Play = Callable[..., str]


@pytest.fixture(scope="module")
def fresh(folder: Path) -> Iterator[Registry]:
    """A registry whose certificate and credentials only its facts tell."""
    ports = ["--port", "5030", "--push-port", "5031"]
    registry = Registry(folder / "fresh", ["--host", "192.0.2.1", *ports])
    registry.up()
    yield registry
    registry.down()


@pytest.fixture
def play(tmp_path: Path, fresh: Registry, trial: Trial) -> Iterator[Play]:
    """Run an example with the facts, as a user who is logged in nowhere."""
    program = Path(os.environ["EXAMPLES_ANSIBLE"], "bin", "ansible-playbook")

    def run_example(name: str, **more: object) -> str:
        variables = tmp_path / "variables.json"
        variables.write_text(json.dumps({"buildset_registry": fresh.facts, **more}))
        words = ["-vvv", "-i", "node,", "-c", "local", "-e", f"@{variables}"]
        # The modules run by the Python that has what they import.
        python = f"ansible_python_interpreter={program.parent / 'python'}"
        paths = {"ANSIBLE_ROLES_PATH": str(EXAMPLES.parents[1] / "roles")}
        said = run(program, *words, "-e", python, EXAMPLES / name, environment=paths)
        assert fresh.facts["password"] not in said
        return said

    with logged_out():
        yield run_example
        for path in (Path.home() / ".docker/config.json", Path("/run/containers/0/auth.json")):
            path.unlink(missing_ok=True)


def test_the_example_for_community_docker_works(play: Play, trial: Trial, fresh: Registry) -> None:
    """docker_login and docker_image push and pull by the facts."""
    run("docker", "load", "--input", trial.source.archive("app:latest"))
    play("docker.yml")
    image = json.loads(run("docker", "image", "inspect", f"{fresh.pull}/org/app:latest"))[0]
    assert [name for name in image["RepoDigests"] if name.startswith(f"{fresh.pull}/org/app@")]
    assert "org/app" in fresh.repositories()
    trial.ledger.note("docker", "pushed and pulled by community.docker")


def test_the_example_for_containers_podman_works(play: Play, trial: Trial, fresh: Registry) -> None:
    """podman_login and podman_image push and pull by the facts."""
    run(
        "podman",
        "pull",
        "--quiet",
        f"docker-archive:{trial.source.archive('localhost/app:latest')}",
    )
    play("podman.yml")
    run("podman", "image", "inspect", f"{fresh.pull}/quay.io/org/app:latest")
    assert "quay.io/org/app" in fresh.repositories()
    trial.ledger.note("podman", "pushed and pulled by containers.podman")


def test_the_example_of_commands_works(
    play: Play, trial: Trial, fresh: Registry, tmp_path: Path
) -> None:
    """skopeo pushes and podman pulls."""
    run("skopeo", "copy", trial.source.oci("amd64"), f"oci:{tmp_path}/image:latest")
    play("commands.yml", build_folder=str(tmp_path))
    run("podman", "image", "inspect", f"{fresh.pull}/registry.example.com/org/app:latest")
    assert "registry.example.com/org/app" in fresh.repositories()


def test_the_example_of_a_dependent_job_works(play: Play, trial: Trial, fresh: Registry) -> None:
    """What the parent pushed is pulled by what it returned."""
    facts = fresh.facts
    words = ["--dest-creds", f"{facts['username']}:{facts['password']}", "--dest-cert-dir"]
    (fresh.root / "certificates").mkdir()
    (fresh.root / "certificates" / "ca.crt").write_text(facts["cert"])
    image = f"docker://{fresh.push}/quay.io/org/app:latest"
    run("skopeo", "copy", *words, fresh.root / "certificates", trial.source.oci("amd64"), image)
    play("dependent-job.yml")


def test_the_example_for_kubernetes_works(play: Play, fresh: Registry, tmp_path: Path) -> None:
    """The secret holds a login as the kubelet reads it; the mirror is containerd's file."""
    play("kubernetes.yml", manifests=str(tmp_path))
    secret = yaml.safe_load((tmp_path / "image-pull-secret.yml").read_text())
    assert (secret["kind"], secret["type"]) == ("Secret", "kubernetes.io/dockerconfigjson")
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    login = config["auths"][fresh.pull]
    assert base64.b64decode(login["auth"]).decode() == f"{login['username']}:{login['password']}"
    assert fresh.status_of(login["username"], login["password"]) == 200
    mirror = tomllib.loads(Path("/etc/containerd/certs.d/quay.io/hosts.toml").read_text())
    (host,) = mirror["host"].values()
    assert list(mirror["host"]) == [f"https://{fresh.pull}/v2/quay.io"]
    assert Path(host["ca"]).read_text().strip() == fresh.facts["cert"].strip()


def test_jobs_for_tenants(play: Play, trial: Trial, fresh: Registry) -> None:
    """A consumer's node pulls what was pushed by its public name, and is then as it was."""
    settings = [Path("/etc/containers/registries.conf"), *REGISTRIES.glob("*")]
    before = {path: path.read_bytes() for path in settings}
    # The system's store of certificates has a part below /usr, which is the machine's own.
    clients = {
        "ansible_become": False,
        "buildset_registry_clients": ["containers"],
        "buildset_registry_system_trust": False,
    }
    play("../../playbooks/zuul/use.yml", **clients)
    digest = trial.clients["podman"].push(trial.source, Kind.OCI, f"{fresh.push}/org/consumed:v1")
    assert trial.clients["podman"].pull("docker.io/org/consumed:v1").digest == digest
    play("../../playbooks/zuul/used.yml", **clients)
    play("../../playbooks/zuul/restore.yml", **clients)
    settings = [settings[0], *REGISTRIES.glob("*")]
    assert {path: path.read_bytes() for path in settings} == before
    trial.ledger.note("podman", "pulled in a job that inherits from buildset-registry-consumer")
