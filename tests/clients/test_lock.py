# SPDX-License-Identifier: Apache-2.0
"""A lock replayed to every client, its images in a folder, and this machine's tools by ``use``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.commands import refused, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind, make_source
from tests.clients.registry import Registry, running
from tests.clients.upstream import Upstream
from tests.ports import free_port

APP, TOOL = "quay.io/org/locked:v1", "quay.io/org/unlisted:v1"


@dataclass(frozen=True)
class Locked:
    """A lock of two images, its images in a folder, and the digest that has moved since."""

    file: Path
    folder: Path
    digest: str


@pytest.fixture(scope="module")
def locked(
    folder: Path, registry: Registry, public: Upstream, clients: dict[str, object]
) -> Locked:
    """Pull an index through, lock it, copy it by the lock, and have upstream's tag move."""
    assert public.process
    assert clients
    place = folder / "locked"
    digest = _publish(make_source(place / "old", "locked, old").layout, APP)
    run("skopeo", "copy", "--all", f"docker://{registry.pull}/{APP}", f"dir:{place}/pulled")
    registry.run("lock", "--output", place / "all.json")
    tree = json.loads((place / "all.json").read_text())
    tree["images"] = {APP: tree["images"][APP]}
    assert tree["images"][APP]["digest"] == digest
    (place / "images.lock.json").write_text(json.dumps(tree))
    lock = Locked(place / "images.lock.json", place / "layout", digest)
    ca = registry.root / "cert.pem"
    words = ("--from", registry.pull, "--source-ca", ca, "--lock", lock.file, f"oci:{lock.folder}")
    run(sys.executable, "-m", "buildset_registry", "copy", *words)
    new = make_source(place / "new", "locked, new")
    assert _publish(new.layout, APP) != digest
    _publish(new.layout, TOOL)
    return lock


def _publish(layout: Path, image: str) -> str:
    file = layout.parent / "digest"
    words = ("skopeo", "copy", "--all", "--preserve-digests", "--digestfile", file)
    run(*words, f"oci:{layout}:index", f"docker://{image}")
    return file.read_text()


@pytest.fixture(scope="module")
def replayed(folder: Path, public: Upstream, locked: Locked) -> Iterator[Registry]:
    """A registry that replays the lock from the folder, strictly, with upstream away."""
    options = ["--host", "192.0.2.1", "--single-port", "--port", str(free_port())]
    options += ["--upstreams-file", str(public.settings()), "--images", f"oci:{locked.folder}"]
    with (
        public.away(),
        running(
            folder / "replayed", *options, "--lock", locked.file, "--lock-mode", "strict"
        ) as made,
    ):
        yield made


@pytest.mark.parametrize("name", ["skopeo", "podman", "buildah", "docker", "docker-current"])
def test_every_client_gets_the_locked_image_and_hears_of_the_lock(
    trial: Trial, replayed: Registry, locked: Locked, name: str
) -> None:
    """Without any network, byte for byte; what the lock does not list is refused by its name."""
    client = trial.clients[name]
    assert client.pull(f"{replayed.pull}/{APP}").digest == locked.digest
    said = refused(*client.pulling(f"{replayed.pull}/{TOOL}"))
    assert TOOL in said
    # containerd shows nothing of an answer's body: what it asked for was not found.
    told = replayed.log if name == "docker-current" else said
    assert f"{TOOL} is not in the lock {replayed.root}/lock/images.lock.json" in told
    trial.ledger.note(name, "pulled by a lock without a network, and heard what it does not list")


def test_tools_read_the_folder_of_a_lock(trial: Trial, locked: Locked, registry: Registry) -> None:
    """skopeo by the image's public name, crane and oras by its digest or as a whole."""
    raw = run("skopeo", "inspect", "--raw", f"oci:{locked.folder}:{APP}")
    index = json.loads(raw)
    assert {one["platform"]["architecture"] for one in index["manifests"]} == {"amd64", "arm64"}
    fetch = ("oras", "manifest", "fetch", "--oci-layout", f"{locked.folder}@{locked.digest}")
    assert json.loads(run(*fetch)) == index
    pushed = f"{registry.push}/org/from-layout:v1"
    trusting = {"SSL_CERT_FILE": str(registry.root / "cert.pem")}
    run("crane", "push", "--index", locked.folder, pushed, environment=trusting)
    listed = json.loads(run("crane", "manifest", pushed, environment=trusting))
    assert [one["digest"] for one in listed["manifests"]] == [locked.digest]
    for tool in ("skopeo", "crane", "oras"):
        trial.ledger.note(tool, "read the folder of a lock")


def test_docker_compose_takes_the_override_of_a_lock(
    trial: Trial, locked: Locked, registry: Registry, public: Upstream, folder: Path
) -> None:
    """Its services get the digest, whatever the tag is at upstream now; the rest is as it was."""
    project, override = folder / "project" / "compose.yaml", folder / "project" / "lock.yaml"
    project.parent.mkdir()
    ports = {"ports": [{"target": 80, "published": "8080"}]}
    services = {"web": {"image": APP, **ports}, "own": {"image": "example.org/own:1"}}
    project.write_text(json.dumps({"name": "project", "services": services}))
    words = ("lock", "--format", "compose", "--compose-file", project)
    override.write_text(registry.run(*words))
    compose = ("docker-compose", "--file", project, "--file", override)
    told = json.loads(run(*compose, "config", "--format", "json"))["services"]
    assert told["web"]["image"] == f"{APP}@{locked.digest}"
    assert told["web"]["ports"][0]["published"] == "8080"
    assert told["own"]["image"] == "example.org/own:1"
    trial.clients["docker"].pulling(APP)  # which removes every image
    with public.here():  # docker has a mirror for docker.io alone
        run(*compose, "pull", "web")
    (image,) = json.loads(run("docker", "image", "inspect", f"{APP}@{locked.digest}"))
    assert image["RepoDigests"] == [f"{APP.rpartition(':')[0]}@{locked.digest}"]
    trial.ledger.note("docker compose", "took the override of a lock")


def test_use_has_podman_get_images_by_their_public_names(trial: Trial, registry: Registry) -> None:
    """With the canary through each of its tools; undone, no file of it is left."""
    digest = trial.push("skopeo", Kind.OCI, "quay.io/org/used:v1")
    before = _files()
    said = registry.run("use", "--client", "containers", "--no-system-trust")
    assert "tried: " in said, said
    assert "podman" in said
    run("podman", "pull", "quay.io/org/used:v1")
    (image,) = json.loads(run("podman", "image", "inspect", "quay.io/org/used:v1"))
    assert f"quay.io/org/used@{digest}" in image["RepoDigests"]
    run("podman", "rmi", "--all", "--force")
    registry.run("use", "--undo")
    assert _files() == before
    trial.ledger.note("podman", "pulled by a public name after buildset-registry use")


def _files() -> dict[Path, bytes]:
    folders = (Path("/etc/containers"), Path("/etc/docker"))
    return {
        path: path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
