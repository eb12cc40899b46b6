# SPDX-License-Identifier: Apache-2.0
"""Pulling the canary through each client that the node really has, by its public names."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace

from . import building, containerd, docker
from .canary import Image, digest_of
from .client import Client, PullError
from .node import Node
from .registry import Namespace

#: What the clients of a family are tried by.
PROGRAMS = {
    "containers": ("podman", "buildah", "skopeo"),
    "docker": ("docker",),
    "containerd": ("ctr",),
    "buildkit": ("buildctl",),
}
_SPACE = "buildset-registry-canary"


def clients(node: Node, configured: Sequence[str], proxied: bool) -> list[Client]:
    """Tell the clients that can be tried: programs that are there, daemons that answer."""
    found = []
    known = [(one, family) for family, programs in PROGRAMS.items() for one in programs]
    for program, family in known:
        path = node.program(program)
        if path and family in configured:
            found.append(_that_answers(Client(program, family, path), node, proxied))
    return [client for client in found if client]


def _that_answers(client: Client, node: Node, proxied: bool) -> Client | None:
    """Learn from a client's daemon, if it has one, where it looks for mirrors."""
    if client.program == "docker":
        return _of_docker(client, node, proxied)
    if client.program == "buildctl":
        return building.that_answers(client, node)
    return _of_containerd(client, node) if client.program == "ctr" else client


def _of_docker(client: Client, node: Node, proxied: bool) -> Client | None:
    """Learn where the daemon has its images, which says where it has its mirrors."""
    try:
        told = client.run("info", "--format", "{{json .DriverStatus}}").decode()
    except PullError:
        return None
    if docker.CONTAINERD in told:
        return replace(client, folder=docker.certificates(node))
    return replace(client, hub_only=not proxied)


def _of_containerd(client: Client, node: Node) -> Client | None:
    try:
        client.run("version")
    except PullError:
        return None
    return replace(client, folder=containerd.hosts_folder(node))


def pull(client: Client, node: Node, image: Image, namespaces: Sequence[Namespace]) -> None:
    """Pull the canary by all names, compare it, and forget it; PullError if it is another one."""
    names = [image.name(namespace) for namespace in namespaces]
    if client.program == "skopeo":
        expected = image.digest
        got = [digest_of(client.run("inspect", "--raw", f"docker://{name}")) for name in names]
    elif client.program == "docker":
        expected, got = image.digest, [_docker(client, name) for name in names]
    elif client.program == "ctr":
        expected, got = image.digest, _ctr(client, names)
    elif client.program == "buildctl":
        expected, got = image.word, building.build(client, image, names)
    else:
        expected, got = image.identity, _storage(client, names)
    for digest in got:
        if digest != expected:
            raise PullError(f"it got {digest or 'nothing'} instead of {expected}")


def _storage(client: Client, names: list[str]) -> list[str]:
    """podman takes several names at once, which buildah does not."""
    if client.program == "podman":
        told = client.run("pull", "--quiet", *names).decode().split()
    else:
        always = ["pull", "--policy", "always", "--quiet"]
        told = [client.run(*always, name).decode().strip() for name in names]
    client.run("rmi", *names)
    return [f"sha256:{identity}" for identity in told]


def _docker(client: Client, name: str) -> str:
    client.run("pull", "--quiet", name)
    told = client.run("image", "inspect", "--format", "{{index .RepoDigests 0}}", name)
    client.run("rmi", name)
    return told.decode().strip().rpartition("@")[2]


def mirrors(docker: Client) -> list[str]:
    """Tell the mirrors of docker.io that the daemon which runs knows."""
    told = docker.run("info", "--format", "{{json .RegistryConfig.Mirrors}}")
    return [url.rstrip("/") for url in json.loads(told) or []]


def _ctr(client: Client, names: list[str]) -> list[str]:
    """ctr 1 does not read the daemon's configuration: it is told the folder that is named there."""
    space = ["--namespace", _SPACE]
    for name in names:
        client.run(*space, "content", "fetch", "--hosts-dir", client.folder, name)
    lines = client.run(*space, "images", "list").decode().splitlines()[1:]
    client.run(*space, "images", "rm", "--sync", *names)
    client.run("namespaces", "rm", _SPACE)
    found = {line.split()[0]: line.split()[2] for line in lines}
    return [found.get(name, "") for name in names]


def machine() -> str:
    """Tell the node's architecture as images name it."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(name, name)
