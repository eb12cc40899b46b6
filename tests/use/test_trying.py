# SPDX-License-Identifier: Apache-2.0
"""By which names the canary tries docker, and where docker has its mirrors."""

from __future__ import annotations

import pytest
from buildset_clients import blame, pulling
from buildset_clients.client import Client, PullError
from buildset_clients.node import Node

from tests.use.places import PULL, Place, wanted

CLASSIC, CONTAINERD = (
    '[["Backing Filesystem","x"]]',
    '[["driver-type","io.containerd.snapshotter.v1"]]',
)
ASKED = PullError("manifest unknown")


def docker(place: Place, told: str, proxied: bool = False) -> Client:
    """Have a docker whose daemon tells this of its images."""
    place.use("docker")
    place.write("/bin/docker", f"#!/bin/sh\necho '{told}'\n", 0o755)
    place.node = Node(place.root, place.node.accounts, True, f"{place.root}/bin")
    (client,) = pulling.clients(place.node, ["docker"], proxied)
    return client


@pytest.mark.parametrize(
    ("told", "proxied", "every"),
    [(CLASSIC, False, False), (CLASSIC, True, True), (CONTAINERD, False, True)],
)
def test_names_of_docker(place: Place, told: str, proxied: bool, every: bool) -> None:
    """All of them with its images in containerd or by a proxy, else docker.io alone."""
    client = docker(place, told, proxied)
    taken = [one.name for one in wanted().namespaces if client.takes(one)]
    assert taken == [one.name for one in wanted().namespaces][: None if every else 1]


def test_a_mirror_that_docker_lacks(place: Place) -> None:
    """With its images in containerd, the file that is at fault is named."""
    client = docker(place, CONTAINERD)
    path = "/etc/docker/certs.d/quay.io/hosts.toml"
    place.write(path, 'server = "https://quay.io"\n')
    said = blame.explain(client, place.node, wanted(), wanted().namespaces[1], ASKED)
    assert f"docker, quay.io: configuration: {PULL} is not its mirror, {path} has none" in said
