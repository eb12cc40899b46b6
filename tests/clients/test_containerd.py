# SPDX-License-Identifier: Apache-2.0
"""containerd, which says by ``?ns=`` which registry a mirror is to stand for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.commands import execute, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.upstream import Upstream

#: dockerd starts one.
SOCKET = "/run/docker/containerd/containerd.sock"
CTR = ["ctr", "--address", SOCKET, "--namespace", "tests", "images"]
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


@pytest.fixture(autouse=True)
def nothing_left(trial: Trial) -> Iterator[None]:
    """Remove containerd's images, and their content, after the test."""
    trial.ledger.introduce("containerd", run("ctr", "--version").split()[-1])
    yield
    images = run(*CTR, "list", "--quiet").split()
    if images:
        run(*CTR, "rm", "--sync", *images)


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


def digest_of(reference: str) -> str:
    """Tell the digest of an image that containerd has."""
    (line,) = run(*CTR, "list", f"name=={reference}").splitlines()[1:]
    return line.split()[2]


def test_push_and_pull(trial: Trial, tmp_path: Path) -> None:
    """containerd pushes an index with the credentials, and pulls it without."""
    pushing, pulling = f"{trial.registry.push}/org/ctr:v1", f"{trial.registry.pull}/org/ctr:v1"
    archive, facts = tmp_path / "index.tar", trial.registry.facts
    source = trial.source.oci("index")
    run("skopeo", "copy", "--all", "--preserve-digests", source, f"oci-archive:{archive}:v1")
    base = pushing.removesuffix(":v1")
    run(*CTR, "import", "--all-platforms", "--no-unpack", "--base-name", base, archive)
    push = [*CTR, "push", *TRUST]
    done = execute(*push, "--user", f"{facts['username']}:wrong", pushing)
    assert done.returncode != 0
    assert "401 Unauthorized" in done.stderr, done.stderr
    trial.ledger.note("containerd", "was refused with a wrong password")
    run(*push, "--user", f"{facts['username']}:{facts['password']}", pushing)
    run(*CTR, "pull", *TRUST, *UNPACK, pulling)
    assert digest_of(pulling) == digest_of(pushing)
    assert trial.pull("skopeo", "org/ctr:v1").digest == digest_of(pushing)
    trial.ledger.note("containerd", "pushed an index, pulled it without a login")


def test_pull_by_namespace(trial: Trial, public: Upstream, mirrors: Path) -> None:
    """An image keeps its name and comes through the mirror, upstream away or not."""
    pushed = {
        f"{host}/org/by-namespace-{number}:v1": trial.clients["skopeo"].push(
            trial.source, Kind.INDEX, f"quay.io/org/by-namespace-{number}:v1"
        )
        for number, host in enumerate(("quay.io", "docker.io"))
    }
    pull = [*CTR, "pull", "--hosts-dir", str(mirrors), *UNPACK]
    for reference, digest in pushed.items():
        run(*pull, reference)
        assert digest_of(reference) == digest
        run(*CTR, "rm", "--sync", reference)
    with public.away():
        for reference, digest in pushed.items():
            run(*pull, reference)
            assert digest_of(reference) == digest
    trial.ledger.note("containerd", "pulled by a mirror (?ns=), also with upstream stopped")


def test_pushed_image_by_namespace(trial: Trial, mirrors: Path) -> None:
    """What a job pushed under a name of quay.io is what containerd gets by that name."""
    digest = trial.push("skopeo", Kind.INDEX, "quay.io/org/by-namespace:pushed")
    run(*CTR, "pull", "--hosts-dir", str(mirrors), *UNPACK, "quay.io/org/by-namespace:pushed")
    assert digest_of("quay.io/org/by-namespace:pushed") == digest
    trial.ledger.note("containerd", "pulled a pushed image by its public name")
