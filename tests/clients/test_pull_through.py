# SPDX-License-Identifier: Apache-2.0
"""Images of another registry, which wants tokens and has a CA of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Trial
from tests.clients.images import Kind, Source, make_source
from tests.clients.registry import Registry
from tests.clients.tools import Client
from tests.clients.upstream import Upstream

MIRRORS = """
[[registry]]
location = "quay.io"
[[registry.mirror]]
location = "{mirror}/quay.io"
"""


@pytest.fixture(scope="module")
def published(clients: dict[str, Client], public: Upstream, folder: Path) -> dict[str, str]:
    """Publish images upstream; the digest of each by its name there."""
    assert public.process
    source: Source = make_source(folder / "published", "published")
    names = {"org/app:v1": Kind.OCI, "org/multi:v1": Kind.INDEX, "library/tool:v1": Kind.DOCKER}
    return {
        name: clients["skopeo"].push(source, kind, f"quay.io/{name}")
        for name, kind in names.items()
    }


@pytest.fixture
def mirrored(registry: Registry) -> Iterator[None]:
    """Let podman ask the registry first for what is on quay.io."""
    settings = Path("/etc/containers/registries.conf.d/mirrors.conf")
    settings.write_text(MIRRORS.format(mirror=registry.pull))
    yield
    settings.unlink()


def test_pulled_through_then_without_upstream(
    trial: Trial, public: Upstream, tmp_path: Path
) -> None:
    """Every client pulls through, upstream gives each blob once, and it may then be away."""
    # Content that no registry has, whatever other tests have pulled before.
    source = make_source(tmp_path / "cold", "cold")
    kinds = {"quay.io/org/cold:v1": Kind.OCI, "quay.io/org/cold-multi:v1": Kind.INDEX}
    skopeo = trial.clients["skopeo"]
    expected = {name: skopeo.push(source, kind, name) for name, kind in kinds.items()}
    before = len(public.log)
    for client in trial.clients:
        assert {name: trial.pull(client, name).digest for name in expected} == expected
        trial.ledger.note(client, "pulled through from a registry with token auth")
    assert_each_blob_once(public.log[before:])
    with public.away():
        for client in trial.clients:
            assert {name: trial.pull(client, name).digest for name in expected} == expected
            trial.ledger.note(client, "pulled through again with that registry stopped")


@pytest.mark.parametrize("name", ["docker", "docker-current"])
def test_docker_hub_by_mirror(
    trial: Trial, public: Upstream, published: dict[str, str], name: str
) -> None:
    """docker's short name comes from Docker Hub by the mirror, and again with Docker Hub away."""
    assert trial.clients[name].pull("tool:v1").digest == published["library/tool:v1"]
    with public.away():
        assert trial.clients[name].pull("tool:v1").digest == published["library/tool:v1"]
    trial.ledger.note(name, "pulled an image of Docker Hub through its mirror, then without it")


@pytest.mark.usefixtures("mirrored")
@pytest.mark.parametrize("name", ["podman", "buildah", "skopeo"])
def test_quay_by_mirror(
    trial: Trial, public: Upstream, published: dict[str, str], name: str
) -> None:
    """With the registry as a mirror, an image keeps its name, and upstream may be away."""
    trial.pull(name, "quay.io/org/multi:v1")
    with public.away():
        assert trial.clients[name].pull("quay.io/org/multi:v1").digest == published["org/multi:v1"]
    trial.ledger.note(name, "pulled by a mirror of registries.conf")


def test_pushed_image_wins(trial: Trial, published: dict[str, str]) -> None:
    """What a job pushes is pulled under the public image's name by everybody."""
    trial.clients["skopeo"].push(trial.source, Kind.OCI, "quay.io/org/won:v1")
    before = trial.pull("podman", "quay.io/org/won:v1").digest
    pushed = trial.push("podman", Kind.ZSTD, "quay.io/org/won:v1")
    assert pushed != before
    for name in ("skopeo", "podman", "buildah"):
        assert trial.pull(name, "quay.io/org/won:v1").digest == pushed
        trial.ledger.note(name, "pulled the pushed image in place of the public one")


def assert_each_blob_once(log: str) -> None:
    """Check that distribution was asked for each blob once, however many clients there were."""
    asked = re.findall(r'"GET /v2/\S+/blobs/(\S+) HTTP/1.1" 200', log)
    assert asked
    assert sorted(asked) == sorted(set(asked))
