# SPDX-License-Identifier: Apache-2.0
"""A registry with a single port, used step by step as the roles of zuul-jobs use theirs.

They configure a node for one address (``use-buildset-registry``), push to it, and copy between it
and an intermediate registry through a tunnel on loopback (``push-to-`` and
``pull-from-intermediate-registry``). A name stands for the address, since docker knows no IPv6
literals.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import tunnel
from tests.clients.commands import run
from tests.clients.conftest import Trial
from tests.clients.images import Kind, make_source
from tests.clients.node import Node, config_json, configured
from tests.clients.registry import Registry, trust
from tests.clients.tools import logged_out
from tests.clients.upstream import Upstream

ALIAS = "zuul-jobs.buildset-registry"
ADDRESSES = {"IPv4": "192.0.2.1", "IPv6": "2001:db8::1"}
PORTS = {"IPv4": "5020", "IPv6": "5021"}
#: How the roles name a build's image in the intermediate registry.
BUILD = "0123456789abcdef0123456789abcdef_latest"


@dataclass(frozen=True)
class Buildset:
    """What the roles know of the registry, and what they made of it."""

    registry: Registry
    node: Node
    intermediate: Registry

    def folder(self, image: str) -> Path:
        """Name a folder to make an image in."""
        return self.registry.root / "sources" / image.translate(str.maketrans("/:", "--"))

    def name(self, image: str) -> str:
        """Name an image as a build pushes it: Docker Hub's without the host."""
        return f"{self.node.address}/{image.removeprefix('docker.io/')}"


@pytest.fixture(scope="module", params=ADDRESSES)
def buildset(
    request: pytest.FixtureRequest, folder: Path, public: Upstream, single: Registry
) -> Iterator[Buildset]:
    """Start the registry and configure the node for it; the intermediate one is there already."""
    address, port = ADDRESSES[request.param], PORTS[request.param]
    if request.param == "IPv6":
        run("ip", "address", "replace", f"{address}/128", "dev", "lo")
    options = ["--host", address, "--single-port", "--port", port]
    options += ["--upstreams-file", str(public.settings())]
    registry = Registry(folder / f"buildset-{port}", options)
    registry.up()
    try:
        assert registry.facts["push_port"] == registry.facts["port"]
        with configured(registry.facts, ALIAS) as node:
            yield Buildset(registry, node, single)
    finally:
        registry.down()


@contextmanager
def tunnelled(buildset: Buildset) -> Iterator[str]:
    """Reach the registry by loopback, with the credentials of both registries, as the roles do."""
    facts, other = buildset.registry.facts, buildset.intermediate
    with ExitStack() as stack:
        address = stack.enter_context(tunnel.to(facts["host"], facts["port"]))
        stack.enter_context(trust(address, facts["cert"]))
        stack.enter_context(config_json({address: facts, other.push: other.facts}))
        yield address


@pytest.mark.parametrize("image", ["docker.io/org/built:latest", "quay.io/org/built:latest"])
@pytest.mark.parametrize("client", ["docker", "podman", "buildah", "skopeo"])
def test_what_is_built_is_pulled_by_its_public_name(
    trial: Trial, buildset: Buildset, public: Upstream, client: str, image: str
) -> None:
    """Each tool pushes with the credentials; without any, each pulls that image by the mirrors."""
    image = image.replace("built", f"built-by-{client}")
    source = make_source(buildset.folder(image), image)
    with logged_out(), buildset.node.credentials():
        pushed = trial.clients[client].push(source, Kind.DOCKER, buildset.name(image))
    with logged_out(), public.away():
        pulled = {other: trial.clients[other].pull(image).digest for other in pulling(image)}
    assert pulled == dict.fromkeys(pulled, pushed)
    trial.ledger.note(client, "pushed to a single port as zuul-jobs does")


def pulling(image: str) -> list[str]:
    """Name the clients that have a mirror for an image: docker has for Docker Hub's only."""
    return ["podman", "buildah", "skopeo", *(["docker"] if image.startswith("docker.io/") else [])]


@pytest.mark.parametrize("image", ["docker.io/org/hub:v1", "quay.io/org/quay:v1"])
def test_what_is_public_is_pulled_through(
    trial: Trial, buildset: Buildset, public: Upstream, image: str
) -> None:
    """An image that was not built comes through the registry, then from it alone."""
    source = make_source(buildset.folder(image), image)
    # The tests are logged in upstream under one of its names; it is one registry.
    there = image.replace("docker.io", "quay.io")
    pushed = trial.clients["skopeo"].push(source, Kind.DOCKER, there)
    with logged_out(), buildset.node.credentials():
        for client in pulling(image):
            assert trial.clients[client].pull(image).digest == pushed
    with logged_out(), public.away():
        for client in pulling(image):
            assert trial.clients[client].pull(image).digest == pushed


def test_docker_with_the_credentials_for_its_mirror(trial: Trial, buildset: Buildset) -> None:
    """The roles give docker the registry's credentials under the name of Docker Hub."""
    source = make_source(buildset.folder("mirrored"), "mirrored")
    with logged_out(), buildset.node.credentials():
        image = buildset.name("org/mirrored:latest")
        pushed = trial.clients["podman"].push(source, Kind.DOCKER, image)
        assert trial.clients["docker"].pull("org/mirrored:latest").digest == pushed


@pytest.mark.parametrize("kind", [Kind.DOCKER, Kind.LIST, Kind.INDEX], ids=lambda kind: kind.name)
@pytest.mark.parametrize("image", ["docker.io/org/travels", "quay.io/org/travels"])
def test_an_image_travels_to_the_next_buildset(
    trial: Trial, buildset: Buildset, kind: Kind, image: str
) -> None:
    """Copied to the intermediate registry, and from there, by the next buildset, to its own."""
    image = f"{image}-{kind.name.lower()}"
    with logged_out(), buildset.node.credentials():
        named = f"{buildset.name(image)}:latest"
        pushed = trial.clients["skopeo"].push(trial.source, kind, named)
    copy = ["skopeo", "--insecure-policy", "copy", "--all"]
    there = f"docker://{buildset.intermediate.push}/{image}:{BUILD}"
    with logged_out(), tunnelled(buildset) as address:
        own = f"docker://{address}/{image.removeprefix('docker.io/')}"
        run(*copy, f"{own}:latest", there)
        run(*copy, there, f"{own}:next")
    with logged_out():
        for client in pulling(image):
            assert trial.clients[client].pull(f"{image}:next").digest == pushed
