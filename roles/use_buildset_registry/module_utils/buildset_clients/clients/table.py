# SPDX-License-Identifier: Apache-2.0
"""The table of clients: a client is a file of this folder and a row here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ..edits import Edit
from ..errors import ClientError, taking
from ..node import ManagedNode
from ..registry import Setup
from ..transaction import Transaction
from . import (
    buildkit,
    containerd,
    containers,
    docker,
    k3s,
    kind,
    microk8s,
    minikube,
    nerdctl,
    system,
)
from .base import Client, Daemon, Service, SnapDaemon

CLIENTS = (
    Client(
        "containers",
        signs=("podman", "skopeo", "buildah", "crio", "/etc/containers"),
        edits=containers.edits,
        service=Daemon("crio", ("crio",), at_sighup=True),
        tools=(containers.Podman, containers.Buildah, containers.Skopeo),
    ),
    Client(
        "docker",
        signs=("dockerd", "docker", "/etc/docker"),
        edits=docker.edits,
        service=Daemon("dockerd", docker.UNITS, at_sighup=True, socket="/run/docker.sock"),
        tools=(docker.Docker,),
        forget=docker.forget,
        refresh=docker.refresh,
    ),
    Client(
        "containerd",
        signs=("containerd", "/etc/containerd"),
        edits=containerd.edits,
        of_root=True,
        service=Daemon("containerd", containerd.UNITS, socket=containerd.ADDRESS),
        tools=(containerd.Ctr, containerd.Crictl),
    ),
    Client("nerdctl", signs=("nerdctl", "/etc/nerdctl"), edits=nerdctl.edits),
    Client(
        "buildkit",
        signs=("buildkitd", "/etc/buildkit"),
        edits=buildkit.edits,
        service=Daemon("buildkitd", buildkit.UNITS),
        tools=(buildkit.Buildctl,),
    ),
    Client("buildx", signs=("docker",), edits=buildkit.builders),
    Client(
        "k3s",
        signs=("k3s", "/etc/rancher/k3s"),
        edits=k3s.edits,
        of_root=True,
        service=Daemon("k3s", k3s.UNITS["k3s"], prefix=k3s.PASSED),
    ),
    Client(
        "rke2",
        signs=("rke2", "/etc/rancher/rke2"),
        edits=k3s.rke2,
        of_root=True,
        service=Daemon("rke2", k3s.UNITS["rke2"], prefix=k3s.PASSED),
    ),
    Client(
        "microk8s",
        signs=("microk8s", microk8s.FOLDER),
        edits=microk8s.edits,
        of_root=True,
        service=SnapDaemon("containerd", (microk8s.UNIT,)),
    ),
    Client("minikube", signs=("minikube",), edits=minikube.edits),
    Client("kind", signs=("kind",), edits=kind.edits),
)

NAMES = [client.name for client in CLIENTS]
_SERVICES: dict[str, Service | None] = {
    system.NAME: system.CertificateStore(),
    **{client.name: client.service for client in CLIENTS},
}


def present(node: ManagedNode) -> list[str]:
    """Tell which clients a node has."""
    return [client.name for client in CLIENTS if client.is_on(node)]


def left_out(node: ManagedNode) -> list[str]:
    """Tell the clients whose daemons an ordinary user cannot configure."""
    return [client.name for client in CLIENTS if client.is_left_out(node)]


def named(names: list[str]) -> list[Client]:
    """Return the rows of clients, in the order of the names."""
    rows = {client.name: client for client in CLIENTS}
    return [rows[name] for name in names]


def refuse(node: ManagedNode, names: list[str]) -> None:
    """Refuse clients that are the whole node's, where an ordinary user names them."""
    others = [] if node.is_root else [client.name for client in named(names) if client.of_root]
    if others:
        hint = "become root, or leave it out of buildset_registry_clients"
        raise ClientError(f"{', '.join(others)} can be configured by root only; {hint}")


def edits(node: ManagedNode, setup: Setup, names: list[str], trusted: bool) -> list[Edit]:
    """Return the edits of these clients, and of what all of them share."""
    with taking("", system.NAME):
        made = system.edits(node, setup.registry, trusted)
    for client in named(names):
        with taking("", client.name):
            if client.service:
                made += client.service.edits(client.name, node, setup.registry)
            made += client.edits(node, setup)
    return made


def unnamed(node: ManagedNode, setup: Setup) -> str:
    """Tell of a name of the registry that could not be written; else nothing."""
    return system.unnamed(node, setup.registry)


def await_names(node: ManagedNode, paths: list[str]) -> None:
    """Wait until daemons that run know the names of a table of hosts that has changed."""
    if system.HOSTS in paths and any(client.runs(node) for client in CLIENTS):
        time.sleep(system.NAMES_SECONDS)


def refuse_restarts(names: Iterable[str]) -> None:
    """Refuse a command to restart what is no client with a daemon."""
    restarted = [client.name for client in CLIENTS if client.service]
    for name in names:
        if name not in restarted:
            hint = f"clients with a daemon are {', '.join(restarted)}"
            what = f"{name} is no client that is restarted"
            raise ClientError(f"buildset_registry_restart_commands: {what}; {hint}")


def tell(node: ManagedNode, commands: Mapping[str, str], name: str, action: str) -> str:
    """Have a client take its new configuration; return a warning where it may not have."""
    service = _SERVICES.get(name)
    return service.tell(node, name, action, commands.get(name)) if service else ""


def forget(transaction: Transaction, commands: Mapping[str, str]) -> list[str]:
    """Do what has to be done before files are restored; return warnings."""
    warnings = []
    for client in CLIENTS:
        if client.forget:
            reload = partial(tell, transaction.node, commands, client.name, "reload")
            warnings.append(client.forget(transaction, reload))
    return [warning for warning in warnings if warning]


def refresh(
    node: ManagedNode, commands: Mapping[str, str], paths: Sequence[str], since: float
) -> list[str]:
    """Do what daemons need besides, of which files have changed since a time; return warnings."""
    warnings = []
    for client in CLIENTS:
        if client.refresh:
            restart = partial(tell, node, commands, client.name, "restart")
            with taking("", client.name):
                warnings.append(client.refresh(node, paths, since, restart))
    return [warning for warning in warnings if warning]
