# SPDX-License-Identifier: Apache-2.0
"""The names by which the canary tries docker, and the place of docker's mirrors."""

from __future__ import annotations

import pytest
from buildset_clients.canary import diagnose, run
from buildset_clients.clients.base import PullError, Tool
from buildset_clients.node import ManagedNode

from tests.use.places import PULL, Place, make_setup

CLASSIC, CONTAINERD = (
    '[["Backing Filesystem","x"]]',
    '[["driver-type","io.containerd.snapshotter.v1"]]',
)
ASKED = PullError("manifest unknown")


def docker(place: Place, told: str, **facts: int) -> Tool:
    """Have a docker whose daemon tells this of its images."""
    place.use("docker")
    place.write("/bin/docker", f"#!/bin/sh\necho '{told}'\n", 0o755)
    place.node = ManagedNode(place.root, place.node.accounts, True, f"{place.root}/bin")
    (tool,) = run.tools(place.node, make_setup(**facts), ["docker"])
    return tool


@pytest.mark.parametrize(
    ("told", "facts", "every"),
    [(CLASSIC, {}, False), (CLASSIC, {"proxy_port": 5002}, True), (CONTAINERD, {}, True)],
    ids=["mirrors of docker.io only", "a proxy", "images in containerd"],
)
def test_docker_is_tried_by_the_names_that_it_has_mirrors_for(
    place: Place, told: str, facts: dict[str, int], every: bool
) -> None:
    """All of them with its images in containerd or by a proxy, else docker.io alone."""
    tool = docker(place, told, **facts)
    names = [one.name for one in make_setup().namespaces]
    taken = [one.name for one in make_setup().namespaces if tool.takes(one)]
    assert taken == names[: None if every else 1]


def test_a_docker_that_lacks_a_mirror_has_its_file_named(place: Place) -> None:
    """With its images in containerd, the file that is at fault is named."""
    tool = docker(place, CONTAINERD)
    path = "/etc/docker/certs.d/quay.io/hosts.toml"
    place.write(path, 'server = "https://quay.io"\n')
    setup = make_setup()
    said = diagnose.explain(tool, setup, setup.namespaces[1], ASKED)
    assert f"docker, quay.io: configuration: {PULL} is not its mirror, {path} has none" in said
