# SPDX-License-Identifier: Apache-2.0
"""The layer that is at fault where a tool did not get the canary.

Tools hide it: where a mirror fails, they ask the public registry, and tell its answer only. So the
configuration that they go by is looked at here: the mirrors in effect, and the certificates beside
them.
"""

from __future__ import annotations

import re
import socket
import ssl

from .. import credential_helpers
from ..clients.base import PullError, Tool
from ..registry import Namespace, Setup

_HELPER = re.compile(r"docker-credential|credential helper|getting (username|credentials)", re.I)
_UNREADABLE = re.compile(r"open (/\S+\.json): permission denied")
_DENIED = re.compile(r"\b401\b|unauthorized|authentication required", re.I)
_POLICY = re.compile(r"signature was required|rejected by policy|image rejected", re.IGNORECASE)
#: The words that a registry which was asked, or could not be, makes tools say.
_ANSWER = re.compile(r"manifest|not found|denied|registry|instead of|dial tcp", re.IGNORECASE)
_SECONDS = 10


def explain(tool: Tool, setup: Setup, namespace: Namespace, error: PullError) -> str:
    """Say in one line which layer is at fault, and what the tool said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else "nothing"
    layer = _layer(tool, setup, namespace, str(error))
    return f"canary: {tool.program}, {namespace.name}: {layer} [{tool.program} says: {said}]"


def _layer(tool: Tool, setup: Setup, namespace: Namespace, said: str) -> str:
    unreadable = _UNREADABLE.search(said)
    if unreadable:
        hint = "give this user the right to read it, or have XDG_RUNTIME_DIR name his own folder"
        return f"auth: {unreadable.group(1)} may not be read; {hint}"
    if _HELPER.search(said):
        named = credential_helpers.named_in(tool.login_files())
        return f"auth: a credential helper fails; mend it or take it out of {named}"
    if _POLICY.search(said):
        return "policy: its policy.json takes no image without a signature"
    where, known = tool.in_effect(namespace)
    ours = tool.mirror(setup.registry, namespace)
    asked = [mirror.partition("://")[2] or mirror for mirror in known]
    addresses = [mirror.partition("/")[0] for mirror in asked]
    if not set(_names(ours, setup)).intersection(addresses):
        named = f"names {', '.join(asked)} instead" if asked else "has none"
        return f"configuration: {ours} is not its mirror, {where} {named}"
    fault = tool.unread() or tool.environment().fault(setup.registry.pull)
    fault = fault or _certificate(tool, setup, namespace)
    if fault:
        return fault
    if _DENIED.search(said) and ours in said:
        return f"auth: {ours} refuses what is in auth.json or config.json"
    if not _ANSWER.search(said) and namespace.name not in said:
        return "client: it fails before it asks a registry"
    return f"fallback: it asked {namespace.name} itself, though {where} names {ours}"


def _names(address: str, setup: Setup) -> list[str]:
    """Tell the names of a mirror: zuul-jobs' role has the pull endpoint by the alias."""
    return setup.registry.pulls if address == setup.registry.pull else [address]


def _certificate(tool: Tool, setup: Setup, namespace: Namespace) -> str:
    """Shake hands with the certificates that the tool has."""
    address = setup.registry.pull
    where, paths = tool.authorities(namespace, address)
    host, _separator, port = address.rpartition(":")
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
        return f"TLS: what is in {where} does not verify {address} ({reason})"
    except OSError as error:
        return f"network: {address} cannot be reached ({error})"
    return ""
