# SPDX-License-Identifier: Apache-2.0
"""The proof that every client gets what the buildset has pushed, by the names of the public."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from . import blame, pulling
from .canary import Image, Pushing
from .client import Client, PullError
from .errors import ClientError
from .node import Node
from .registry import Wanted


def prove(node: Node, wanted: Wanted, configured: Sequence[str]) -> list[str]:
    """Push the canary, pull it through every client, remove it; return the clients."""
    image, clients = (
        Image.make(pulling.machine()),
        pulling.clients(node, configured, bool(wanted.registry.proxy)),
    )
    pushing = Pushing(wanted.registry)
    try:
        pushing.push(image, wanted)
        with ThreadPoolExecutor(max_workers=5) as pool:
            faults = list(pool.map(lambda lane: _try(lane, node, image, wanted), _lanes(clients)))
    finally:
        pushing.remove(image, wanted)
    found = [fault for fault in faults if fault]
    if found:
        raise ClientError("; ".join(found))
    return [client.program for client in clients]


def untried(configured: Sequence[str], tried: Sequence[str]) -> list[str]:
    """Tell which of the clients that are configured could not be tried."""
    return [
        f"{family} was not tried: {' or '.join(programs)} is not there, or gets no answer"
        for family, programs in pulling.PROGRAMS.items()
        if family in configured and not set(programs) & set(tried)
    ]


def _lanes(clients: list[Client]) -> list[list[Client]]:
    """Part the clients so that those that share a storage of images come one after the other."""
    shared = [client for client in clients if client.program in ("podman", "buildah")]
    return [shared, *([client] for client in clients if client not in shared)]


def _try(lane: list[Client], node: Node, image: Image, wanted: Wanted) -> str:
    """Pull through clients by every name; return what is wrong at the first that fails."""
    for client in lane:
        namespaces = list(filter(client.takes, wanted.namespaces))
        try:
            pulling.pull(client, node, image, namespaces)
        except PullError as error:
            return _blame(client, node, image, wanted, error)
    return ""


def _blame(client: Client, node: Node, image: Image, wanted: Wanted, error: PullError) -> str:
    """Find the first name that a client fails by, and say why."""
    for namespace in filter(client.takes, wanted.namespaces):
        try:
            pulling.pull(client, node, image, [namespace])
        except PullError as again:
            return blame.explain(client, node, wanted, namespace, again)
    return f"canary: {client.program}: it failed once [{client.program} says: {error}]"
