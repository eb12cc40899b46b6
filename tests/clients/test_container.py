# SPDX-License-Identifier: Apache-2.0
"""The registry in a container: built, run and asked by a user without rights, nothing written."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.clients import container, daemon
from tests.clients.commands import execute, run, wait_until
from tests.clients.container import IMAGE, REPOSITORY, Operator
from tests.clients.images import Source
from tests.ports import free_port
from tests.roles import harness

SIZES = Path("build", "reports", "container.txt")
#: As the documentation runs it; ports cannot be published without a network of its own.
RUN = ["podman", "run", "--detach", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
RUN += ["--security-opt", "no-new-privileges"]
#: Makes ready one of the programs that read compose files, for as long as it is used.
Compose: TypeAlias = Callable[[Operator], AbstractContextManager[list[str | Path]]]


@pytest.fixture(scope="module")
def operator(folder: Path) -> Iterator[Operator]:
    """A user who has built the image."""
    made = container.make_operator(Path("/run/keeper"))
    container.make_base(made, harness.base_python())
    container.build(made, Path(os.environ["CONTAINER_WHEELS"]))
    yield made
    # buildah makes it outside of what is this user's, XDG_RUNTIME_DIR or not.
    name = f"containers-user-{pwd.getpwnam(container.USER).pw_uid}"
    left = Path("/tmp", name)  # noqa: S108 - its choice
    shutil.rmtree(left, ignore_errors=True)


@dataclass
class Served:
    """A container with a registry, and its ports."""

    operator: Operator
    name: str
    ports: tuple[int, int]

    def inside(self, *words: str) -> str:
        """Run a command in it."""
        return self.operator.run("podman", "exec", self.name, *words)

    def facts(self) -> dict[str, Any]:
        """Return the facts, as the operator gets them."""
        status = json.loads(self.inside("buildset-registry", "status", "--json"))
        return dict(status["facts"])

    def wait(self) -> None:
        """Wait until it is healthy; without systemd podman asks no sooner than it is told to."""
        check = self.operator.command("podman", "healthcheck", "run", self.name)
        deadline = time.monotonic() + 60
        while execute(*check).returncode:
            assert time.monotonic() < deadline, self.operator.run("podman", "logs", self.name)
            time.sleep(0.1)


@contextmanager
def serving(operator: Operator, name: str, *options: str) -> Iterator[Served]:
    """Run a container for a while."""
    ports = (free_port(), free_port())
    command = ["up", "--foreground", "--host", "127.0.0.1"]
    command += ["--port", str(ports[0]), "--push-port", str(ports[1])]
    operator.run(*RUN, "--name", name, *options, IMAGE, *command)
    served = Served(operator, name, ports)
    try:
        served.wait()
        yield served
    finally:
        operator.run("podman", "rm", "--force", "--time", "10", name)


def copy(served: Served, folder: Path, source: str, target: str) -> None:
    """Copy an image by skopeo, with what the facts say and nothing else."""
    facts = served.facts()
    trusted = folder / f"certificates-{served.name}"
    trusted.mkdir(exist_ok=True)
    (trusted / "ca.crt").write_text(facts["cert"])
    login = f"{facts['username']}:{facts['password']}"
    words: list[str | Path] = ["--src-cert-dir", trusted, "--dest-cert-dir", trusted]
    words += ["--dest-creds", login] if target.startswith("docker:") else []
    run("skopeo", "copy", *words, source, target)


def test_it_serves_without_rights_and_writes_nothing_but_its_volume(
    operator: Operator, source: Source, tmp_path: Path
) -> None:
    """Pushed to, stopped, and pulled from in a new container with the same facts and images."""
    volume = "--volume=images:/var/lib/buildset-registry"
    with serving(operator, "first", volume) as served:
        facts = served.facts()
        image = f"docker://127.0.0.1:{served.ports[1]}/org/app:v1"
        copy(served, tmp_path, source.oci("amd64"), image)
        assert served.inside("id", "-u").strip() == "10001"
        assert "Read-only file system" in served.inside("sh", "-c", "touch /here 2>&1 || true")
        # What podman itself puts there.
        written = set(operator.run("podman", "diff", "first").splitlines())
        assert written <= {"C /etc", "A /etc/group", "A /etc/passwd"}
        operator.run("podman", "stop", "--time", "20", "first")
        (ended,) = json.loads(operator.run("podman", "inspect", "first"))
        assert ended["State"]["ExitCode"] == 0
        log = operator.run("sh", "-c", "podman logs first 2>&1")
        assert "running requests are finished first" in log
        assert facts["password"] not in log
    with serving(operator, "second", volume) as again:
        assert again.facts()["cert"] == facts["cert"]
        image = f"docker://127.0.0.1:{again.ports[0]}/org/app:v1"
        copy(again, tmp_path, image, f"oci:{tmp_path / 'pulled'}")
        operator.run("podman", "volume", "inspect", "images")


@contextmanager
def podman_compose(operator: Operator) -> Iterator[list[str | Path]]:
    """Yield the command of podman-compose, which runs podman's own."""
    program = operator.home / "podman-compose"
    shutil.copytree(Path(os.environ["CONTAINER_COMPOSE"]), program)
    python = harness.base_python()
    yield [f"PYTHONPATH={program}", python, "-m", "podman_compose", "--in-pod", "false"]


@contextmanager
def docker_compose(operator: Operator) -> Iterator[list[str | Path]]:
    """Yield the command of docker compose, which asks podman by the socket of the user."""
    program = operator.home / "docker-compose"
    shutil.copy(str(shutil.which("docker-compose")), program)
    socket = operator.home / "run" / "podman.sock"
    service = operator.command("podman", "system", "service", "--time", "0", f"unix://{socket}")
    with daemon.process(operator.home / "podman.log", *service):
        wait_until(socket.exists, "podman listens")
        yield [f"DOCKER_HOST=unix://{socket}", program]


@pytest.mark.parametrize("compose", [podman_compose, docker_compose])
def test_compose_runs_it(
    operator: Operator, source: Source, tmp_path: Path, compose: Compose
) -> None:
    """As the file says, but for ports, which cannot be published here; pushed to, pulled from."""
    served = Served(operator, "buildset-registry", (free_port(), free_port()))
    command = ["up", "--foreground", "--host", "127.0.0.1"]
    command += ["--port", str(served.ports[0]), "--push-port", str(served.ports[1])]
    here = {
        "container_name": served.name,
        "network_mode": "host",
        "command": command,
    }
    override = operator.home / "override.yaml"
    override.write_text(yaml.safe_dump({"services": {"registry": here}}))
    file = operator.home / "compose.yaml"
    shutil.copy(REPOSITORY / "container" / "compose.yaml", file)
    with compose(operator) as program:
        words = ["REGISTRY_HOST=127.0.0.1", *program, "--file", file, "--file", override]
        operator.run("env", *words, "up", "--detach", "--no-build")
        try:
            served.wait()
            check_confined(operator, served)
            pushed, pulled = (
                f"docker://127.0.0.1:{port}/org/app:v1" for port in served.ports[::-1]
            )
            copy(served, tmp_path, source.oci("amd64"), pushed)
            copy(served, tmp_path, pulled, f"oci:{tmp_path / 'pulled'}")
        finally:
            operator.run("env", *words, "down", "--volumes")
    assert served.name not in operator.run("podman", "ps", "--all")
    assert served.name not in operator.run("podman", "volume", "ls", "--quiet")


def check_confined(operator: Operator, served: Served) -> None:
    """Check that the container has the rights that the compose file leaves it, and no more."""
    (inspected,) = json.loads(operator.run("podman", "inspect", served.name))
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    assert inspected["EffectiveCaps"] in ([], None)
    assert inspected["Config"]["Healthcheck"]["Test"][-2:] == ["status", "--health"]
    assert "no-new-privileges" in str(inspected["HostConfig"]["SecurityOpt"])
    assert served.inside("id", "-u").strip() == "10001"
    assert "Read-only file system" in served.inside("sh", "-c", "touch /here 2>&1 || true")


def test_the_image_is_small_and_says_how_it_is_used(operator: Operator) -> None:
    """What is above the base is less than 100 MB; the figures are left with the reports."""
    images = [
        json.loads(operator.run("podman", "image", "inspect", name))[0]
        for name in (container.BASE, IMAGE)
    ]
    base, above = images[0]["Size"], images[1]["Size"] - images[0]["Size"]
    SIZES.parent.mkdir(parents=True, exist_ok=True)
    SIZES.write_text(f"base {base:,} bytes, the registry above it {above:,} bytes\n")
    assert above < 100_000_000
    config = images[1]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Volumes"] == {"/var/lib/buildset-registry": {}}
    health = images[1]["Healthcheck"]["Test"]
    assert health == ["CMD", "buildset-registry", "status", "--health"]
