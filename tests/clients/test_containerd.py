# SPDX-License-Identifier: Apache-2.0
"""containerd, which says by ``?ns=`` which registry a mirror is to stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import daemon
from tests.clients.commands import execute, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.upstream import Upstream

#: containerd reads the certificates in docker's folder as well.
TRUST = ["--hosts-dir", "/etc/docker/certs.d"]
#: An overlay on the overlay of the enclosed machine does not work.
UNPACK = ["--snapshotter", "native"]
HOSTS = """
server = "https://{upstream}"
[host."https://{mirror}"]
capabilities = ["pull", "resolve"]
ca = "{ca}"
"""


@dataclass(frozen=True)
class Containerd:
    """One of the containerds, by its command line."""

    name: str
    program: str | Path
    socket: str | Path
    version: str

    @property
    def ctr(self) -> list[str | Path]:
        """What every command begins with."""
        return [self.program, "--address", self.socket, "--namespace", "tests", "images"]

    def digest_of(self, reference: str) -> str:
        """Tell the digest of an image that it has."""
        (line,) = run(*self.ctr, "list", f"name=={reference}").splitlines()[1:]
        return line.split()[2]


@pytest.fixture(params=["1.6", "2"])
def containerd(trial: Trial, request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """The containerd that each docker has; its images, and their content, go after the test."""
    if request.param == "2":
        # Its ctr has the transfer service pull and push.
        program, version = daemon.CURRENT / "ctr", daemon.built("ctr")
        made = Containerd("containerd-current", program, daemon.CONTAINERD_SOCKET, version)
    else:
        version = run("ctr", "--version").split()[-1]
        made = Containerd("containerd", "ctr", "/run/docker/containerd/containerd.sock", version)
    trial.ledger.introduce(made.name, version)
    yield made
    images = run(*made.ctr, "list", "--quiet").split()
    if images:
        run(*made.ctr, "rm", "--sync", *images)


@pytest.fixture
def mirrors(trial: Trial, tmp_path: Path) -> Path:
    """Containerd's configuration that makes the registry a mirror of two others."""
    address = trial.registry.pull
    for name, server in {"quay.io": "quay.io", "docker.io": "registry-1.docker.io"}.items():
        folder = tmp_path / name
        folder.mkdir()
        ca = f"/etc/docker/certs.d/{address}/ca.crt"
        (folder / "hosts.toml").write_text(HOSTS.format(upstream=server, mirror=address, ca=ca))
    return tmp_path


def test_push_and_pull(trial: Trial, containerd: Containerd, tmp_path: Path) -> None:
    """containerd pushes an index with the credentials, and pulls it without."""
    name = f"org/{containerd.name}:v1"
    pushing, pulling = f"{trial.registry.push}/{name}", f"{trial.registry.pull}/{name}"
    archive, facts = tmp_path / "index.tar", trial.registry.facts
    source = trial.source.oci("index")
    run("skopeo", "copy", "--all", "--preserve-digests", source, f"oci-archive:{archive}:v1")
    base = pushing.removesuffix(":v1")
    run(*containerd.ctr, "import", "--all-platforms", "--no-unpack", "--base-name", base, archive)
    push = [*containerd.ctr, "push", *TRUST]
    done = execute(*push, "--user", f"{facts['username']}:wrong", pushing)
    assert done.returncode != 0
    assert "401 Unauthorized" in done.stderr, done.stderr
    trial.ledger.note(containerd.name, "was refused with a wrong password")
    run(*push, "--user", f"{facts['username']}:{facts['password']}", pushing)
    run(*containerd.ctr, "pull", *TRUST, *UNPACK, pulling)
    assert containerd.digest_of(pulling) == containerd.digest_of(pushing)
    assert trial.pull("skopeo", name).digest == containerd.digest_of(pushing)
    trial.ledger.note(containerd.name, "pushed an index, pulled it without a login")


def test_pull_by_namespace(
    trial: Trial, containerd: Containerd, public: Upstream, mirrors: Path
) -> None:
    """An image keeps its name and comes through the mirror, upstream away or not."""
    pushed = {
        f"{host}/org/by-namespace-{number}:v1": trial.clients["skopeo"].push(
            trial.source, Kind.INDEX, f"quay.io/org/by-namespace-{number}:v1"
        )
        for number, host in enumerate(("quay.io", "docker.io"))
    }
    pull = [*containerd.ctr, "pull", "--hosts-dir", str(mirrors), *UNPACK]
    for reference, digest in pushed.items():
        run(*pull, reference)
        assert containerd.digest_of(reference) == digest
        run(*containerd.ctr, "rm", "--sync", reference)
        # containerd asks for no content that another of its namespaces has, docker's or CRI's.
        assert trial.pull("skopeo", reference).digest == digest
    with public.away():
        for reference, digest in pushed.items():
            run(*pull, reference)
            assert containerd.digest_of(reference) == digest
    trial.ledger.note(containerd.name, "pulled by a mirror (?ns=), also with upstream stopped")


def test_pushed_image_by_namespace(trial: Trial, containerd: Containerd, mirrors: Path) -> None:
    """What a job pushed under a name of quay.io is what containerd gets by that name."""
    name = "quay.io/org/by-namespace:pushed"
    digest = trial.push("skopeo", Kind.INDEX, name)
    run(
        *containerd.ctr,
        "pull",
        "--hosts-dir",
        str(mirrors),
        *UNPACK,
        name,
    )
    assert containerd.digest_of(name) == digest
    trial.ledger.note(containerd.name, "pulled a pushed image by its public name")
