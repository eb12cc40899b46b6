# SPDX-License-Identifier: Apache-2.0
"""Which layer is at fault where a client did not get the canary.

Clients hide it: where a mirror fails, they ask the public registry, and tell its answer only. So
what they go by is looked at here: the mirrors that are in effect, and the certificates beside them.
"""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Any

from . import containers, files, tomltext
from .client import Client, PullError
from .daemons import Daemons
from .node import Node
from .pulling import mirrors
from .registry import DOCKER_HUB, Namespace, Wanted

_HELPER = re.compile(r"docker-credential|credential helper|getting (username|credentials)", re.I)
_DENIED = re.compile(r"\b401\b|unauthorized|authentication required", re.I)
#: What a registry that was asked, or could not be, makes clients say.
_ANSWER = re.compile(r"manifest|not found|denied|registry|instead of|dial tcp", re.IGNORECASE)
_SECONDS = 10
#: What two times may differ by that are told by different clocks: a process has its start in ticks
#: since the node's own, a file its change by the clock of the day, which may be set meanwhile.
_CLOCKS_SECONDS = 0.5


def explain(
    client: Client, node: Node, wanted: Wanted, namespace: Namespace, error: PullError
) -> str:
    """Say in one line which layer is at fault, and what the client said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else "nothing"
    layer = _layer(client, node, wanted, namespace, str(error))
    return f"canary: {client.program}, {namespace.name}: {layer} [{client.program} says: {said}]"


def _layer(client: Client, node: Node, wanted: Wanted, namespace: Namespace, said: str) -> str:
    if _HELPER.search(said):
        return "auth: a credential helper fails; mend it or take it out of the configuration"
    where, known = _mirrors(client, node, namespace)
    ours = wanted.registry.pull
    if client.family == "docker" and not client.folder and namespace.name != DOCKER_HUB:
        ours = wanted.registry.proxy
    asked = [mirror.partition("://")[2] or mirror for mirror in known]
    addresses = [mirror.partition("/")[0] for mirror in asked]
    if ours not in addresses:
        named = f"names {', '.join(asked)} instead" if asked else "has none"
        return f"configuration: {ours} is not its mirror, {where} {named}"
    fault = _unread(client, node) or _certificate(client, node, wanted, namespace)
    if fault:
        return fault
    if _DENIED.search(said) and ours in said:
        return f"auth: {ours} refuses what is in auth.json or config.json"
    if not _ANSWER.search(said) and namespace.name not in said:
        return "client: it fails before it asks a registry"
    return f"fallback: it asked {namespace.name} itself, though {where} names {ours}"


def _unread(client: Client, node: Node) -> str:
    """Tell of a BuildKit that has not read its file, which it does at its start."""
    begun = Daemons(node, {}).started("buildkitd") if client.settings else 0
    if not begun or node.real(client.settings).stat().st_mtime - begun < _CLOCKS_SECONDS:
        return ""
    hint = "restart it, or say how in buildset_registry_restart_commands.buildkit"
    return f"configuration: buildkitd was started before {client.settings} was written; {hint}"


def _mirrors(client: Client, node: Node, namespace: Namespace) -> tuple[str, list[str]]:
    """Tell which mirrors are in effect, and where that is said."""
    if client.settings:
        table = tomltext.get(_read(node, client.settings), ["registry", namespace.name])
        return client.settings, list(table.get("mirrors", []))
    if client.folder:
        path = f"{client.folder}/{namespace.name}/hosts.toml"
        return path, list(_read(node, path).get("host", {}))
    if client.family == "docker" and namespace.name != DOCKER_HUB:
        told = client.run("info", "--format", "{{.HTTPSProxy}}").decode().strip()
        return "the daemon that runs", [told.rpartition("@")[2]] if told else []
    if client.family == "docker":
        return "the daemon that runs", mirrors(client)
    return _containers(node, namespace)


def _read(node: Node, path: str) -> dict[str, Any]:
    return tomltext.load(files.read(node.real(path)), path)


def _containers(node: Node, namespace: Namespace) -> tuple[str, list[str]]:
    found: tuple[str, dict[str, Any]] = ("registries.conf", {})
    for path, one in containers.entries(node):
        # The image is below the registry's name: no longer prefix is in the way.
        if (one.get("prefix") or one.get("location")) == namespace.name:
            found = (str(path), one)
    return found[0], [str(one["location"]) for one in found[1].get("mirror", [])]


def _certificate(client: Client, node: Node, wanted: Wanted, namespace: Namespace) -> str:
    """Shake hands with the certificates that the client has."""
    registry = wanted.registry
    where, paths = _authorities(client, node, wanted, namespace)
    host, _separator, port = registry.pull.rpartition(":")
    context = ssl.create_default_context()
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    for path in paths:
        try:
            context.load_verify_locations(cafile=str(path))
        except OSError as error:  # as are those of ssl
            return f"TLS: {path} holds no certificate ({error})"
    try:
        with socket.create_connection((host, int(port)), _SECONDS) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except socket.gaierror:
        return f"name: {host} does not resolve on this node"
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error
        return f"TLS: what is in {where} does not verify {registry.pull} ({reason})"
    except OSError as error:
        return f"network: {registry.pull} cannot be reached ({error})"
    return ""


def _authorities(
    client: Client, node: Node, wanted: Wanted, namespace: Namespace
) -> tuple[str, list[Path]]:
    address = wanted.registry.pull
    if client.settings or client.folder:
        path, table = client.settings, ["registry", address]
        if client.folder:
            path = f"{client.folder}/{namespace.name}/hosts.toml"
            table = ["host", f"https://{address}"]
        named = tomltext.get(_read(node, path), table).get("ca", [])
        names = [named] if isinstance(named, str) else list(named)
        return path, [node.real(name) for name in names]
    folders = [f"{node.me.home}/.config/containers/certs.d", "/etc/containers/certs.d"]
    # containers' tools take the first of these that is there, docker has the last one.
    tried = [*(folders if client.family == "containers" else []), "/etc/docker/certs.d"]
    found = [f"{folder}/{address}" for folder in tried if node.exists(f"{folder}/{address}")]
    if not found:
        return f"certs.d ({address} has no folder there)", []
    return found[0], sorted(node.real(found[0]).glob("*.crt"))
