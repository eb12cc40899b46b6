# SPDX-License-Identifier: Apache-2.0
"""Which clients a node has, and the edits that each of them needs."""

from __future__ import annotations

from collections.abc import Callable

from . import buildkit, containerd, containers, credentials, docker, dockerproxy, kubernetes, system
from .daemons import Daemons
from .edits import Edit
from .node import Node
from .registry import Wanted

#: Every client by the name that users give; what it may be told by, programs and files.
SIGNS: dict[str, tuple[str, ...]] = {
    "containers": ("podman", "skopeo", "buildah", "crio", "/etc/containers"),
    "docker": ("dockerd", "docker", "/etc/docker"),
    "containerd": ("containerd", "/etc/containerd"),
    "buildkit": ("buildkitd", "/etc/buildkit"),
    "buildx": ("docker",),
    "k3s": ("k3s", "/etc/rancher/k3s"),
    "rke2": ("rke2", "/etc/rancher/rke2"),
    "microk8s": ("microk8s", kubernetes.MICROK8S),
    "minikube": ("minikube",),
    "kind": ("kind",),
}
#: What belongs to the whole node, or writes where root alone may.
_OF_ROOT = ("containerd", "k3s", "rke2", "microk8s")


def present(node: Node) -> list[str]:
    """Tell which clients the node has."""
    return [
        name
        for name, signs in SIGNS.items()
        if any(node.exists(sign) if "/" in sign else node.program(sign) for sign in signs)
        and (node.is_root or name not in _OF_ROOT)
    ]


def edits(
    node: Node, wanted: Wanted, clients: list[str], daemons: Daemons, store: bool
) -> list[Edit]:
    """Return the edits of these clients, and of what all of them share."""
    plans: dict[str, Callable[[], list[Edit]]] = {
        "containers": lambda: containers.edits(node, wanted),
        "docker": lambda: [
            *docker.edits(node, wanted, daemons.arguments("dockerd")),
            *dockerproxy.edits(node, wanted, daemons.environment("dockerd")),
        ],
        "containerd": lambda: containerd.edits(node, wanted, daemons.major("containerd")),
        "buildkit": lambda: buildkit.daemon(node, wanted, daemons.arguments("buildkitd")),
        "buildx": lambda: buildkit.builders(node, wanted),
        "k3s": lambda: kubernetes.rancher("k3s", wanted),
        "rke2": lambda: kubernetes.rancher("rke2", wanted),
        "microk8s": lambda: kubernetes.microk8s(wanted),
        "minikube": lambda: kubernetes.minikube(node, wanted),
        "kind": lambda: kubernetes.kind(node, wanted),
    }
    made = credentials.edits(node, wanted.registry) + system.names(node, wanted.registry)
    if store:
        made += system.trust(node, wanted.registry)
    for client in clients:
        made += plans[client]()
    return made
