# SPDX-License-Identifier: Apache-2.0
"""A run of the canary, an image that proves that every client gets what the buildset has pushed.

It is pushed, pulled through every tool by its public names, and removed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ..clients.base import PullError, Tool
from ..clients.table import CLIENTS
from ..errors import ClientError
from ..node import ManagedNode
from ..registry import Namespace, Setup
from . import diagnose
from .image import Image, PushEndpoint


def prove(node: ManagedNode, setup: Setup, configured: Sequence[str]) -> list[str]:
    """Push the canary, pull it through every tool, remove it; return the tools' programs."""
    image, found = Image.make(machine()), tools(node, setup, configured)
    lanes = _lanes(found)
    endpoint = PushEndpoint(setup.registry)
    try:
        endpoint.push(image, setup)
        with ThreadPoolExecutor(max_workers=len(lanes) or 1) as pool:
            faults = list(pool.map(lambda lane: _try(lane, image, setup), lanes))
    finally:
        endpoint.remove(image, setup)
    faults = [fault for fault in faults if fault]
    programs = [tool.program for tool in found]
    user = "" if node.is_root else f"as {node.me.name}: "
    endpoint.tell(user + ("; ".join(faults) or f"found by {', '.join(programs) or 'no client'}"))
    if faults:
        raise ClientError("; ".join(faults))
    return programs


def untried(node: ManagedNode, configured: Sequence[str], tried: Sequence[str]) -> list[str]:
    """Tell which of the clients that are configured could not be tried, and why."""
    notes = []
    for client in CLIENTS:
        programs = [tool.program for tool in client.tools]
        if programs and client.name in configured and not set(programs) & set(tried):
            known = [(tool, node.program(tool.program)) for tool in client.tools]
            told = [tool.silence(path, node) for tool, path in known if path]
            missing = f"{' or '.join(programs)} is not there, or gets no answer"
            notes.append(f"{client.name} was not tried: {next(filter(None, told), missing)}")
    return notes


def unproven(node: ManagedNode, setup: Setup, configured: Sequence[str]) -> list[str]:
    """Tell of proxies that would keep tools from the registry, where no canary does."""
    notes = []
    for tool in tools(node, setup, configured):
        with suppress(PullError):
            fault = tool.environment().fault(setup.registry.pull)
            notes += [f"{tool.program}: {fault}"] if fault else []
    return notes


def tools(node: ManagedNode, setup: Setup, configured: Sequence[str]) -> list[Tool]:
    """Return the tools that can be tried: programs that are there, and daemons that answer."""
    kinds = [kind for one in CLIENTS if one.name in configured for kind in one.tools]
    programs = [(kind, node.program(kind.program)) for kind in kinds]
    found = [kind.connect(path, node, setup) for kind, path in programs if path]
    return [tool for tool in found if tool]


def _lanes(found: Sequence[Tool]) -> list[list[Tool]]:
    """Part the tools so that those that share a storage of images come one after the other."""
    lanes: dict[str, list[Tool]] = {}
    for tool in found:
        lanes.setdefault(tool.storage or tool.program, []).append(tool)
    return list(lanes.values())


def _try(lane: Sequence[Tool], image: Image, setup: Setup) -> str:
    """Pull through tools by every name; return what is wrong at the first that fails."""
    for tool in lane:
        try:
            _pull(tool, image, list(filter(tool.takes, setup.namespaces)))
        except PullError as error:
            return _first_fault(tool, image, setup, error)
    return ""


def _first_fault(tool: Tool, image: Image, setup: Setup, error: PullError) -> str:
    """Find the first name that a tool fails by, and say why."""
    for namespace in filter(tool.takes, setup.namespaces):
        try:
            _pull(tool, image, [namespace])
        except PullError as again:
            return diagnose.explain(tool, setup, namespace, again)
    return f"canary: {tool.program}: it failed once [{tool.program} says: {error}]"


def _pull(tool: Tool, image: Image, namespaces: Sequence[Namespace]) -> None:
    """Pull the canary by all names and compare it; PullError if it is another one."""
    expected = tool.expected(image)
    for got in tool.pull(image, [image.name(namespace) for namespace in namespaces]):
        if got != expected:
            raise PullError(f"it got {got or 'nothing'} instead of {expected}")


def machine() -> str:
    """Tell the node's architecture as images name it."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(name, name)
