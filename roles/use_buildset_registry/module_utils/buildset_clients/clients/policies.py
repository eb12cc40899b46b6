# SPDX-License-Identifier: Apache-2.0
"""policy.json, which says whose signatures an image needs: the buildset's images have none.

containers-policy.json(5): of the scopes of a transport the most exact one counts, then those of
the host's domains by a wildcard, the transport's own, and the default of all transports. An image
is judged by its public name, whatever mirror it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import files
from ..edits import JSON, Edit
from ..errors import ClientError
from ..formats import json, toml
from ..node import Account, ManagedNode, acting_as
from ..registry import Setup
from . import registries

_TRANSPORT = "docker"
_ANY = "insecureAcceptAnything"
_REJECTED = "reject"
_SYSTEM = "/etc/containers/policy.json"
#: Where cri-o has a policy of its own: what its files name, and one for each Kubernetes namespace.
_CRIO = "/etc/crio"
_NAMED = re.compile(rb"^\s*signature_policy\s*=", re.MULTILINE)


@dataclass(frozen=True)
class Need:
    """A requirement that images without signatures do not meet."""

    kind: str
    """The type of the requirement."""

    where: str
    """The part of the policy that has it."""

    namespace: str
    scope: str
    """The scope of the transport that is to take any image instead."""

    def refusal(self, path: str) -> ClientError:
        """Say what to do."""
        without = f"take {self.namespace} out of buildset_registry_namespaces"
        ours = f'"{self.scope}": [{{"type": "{_ANY}"}}]'
        if self.kind == _REJECTED:
            what = f"{path}: {self.where} rejects images of {self.namespace}"
            return ClientError(f"{what}; write {ours} in transports.docker there, or {without}")
        what = f"{path}: {self.where} wants signatures ({self.kind}) of images of {self.scope}"
        hint = f"have buildset_registry_signature_policy: relax write {ours} there, or {without}"
        return ClientError(f"{what}, and those of a buildset have none; {hint}")


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Relax every policy that wants signatures of what is ours, or refuse to go on."""
    made = []
    for path, account in _paths(node):
        rewrite = partial(_rewritten, setup, path, path, b"")
        made.append(Edit("containers", path, JSON, rewrite, account=account, action="reload"))
    return made + ([] if node.is_root else _of_user(node, setup))


def _of_user(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Relax the policy of a user without root: one of his own stands in for the system's."""
    path = f"{registries.home_of(node.me)}/policy.json"
    shared = files.read(node.real(_SYSTEM)) or b""
    if not node.exists(path) and not _needs(json.load(shared, _SYSTEM), setup, _SYSTEM):
        return []
    return [Edit("containers", path, JSON, partial(_rewritten, setup, path, _SYSTEM, shared))]


def _paths(node: ManagedNode) -> Iterator[tuple[str, Account | None]]:
    """Yield the policies that the tools and cri-o read, and the users that they are of."""
    if not node.is_root:
        return
    for path in dict.fromkeys([_SYSTEM, *_of_crio(node)]):
        if node.exists(path):
            yield path, None
    for account in node.accounts:
        path = f"{registries.home_of(account)}/policy.json"
        with acting_as(account):
            is_there = node.exists(path)
        if is_there:
            yield path, account if account != node.me else None


def _of_crio(node: ManagedNode) -> Iterator[str]:
    settings = [node.real(f"{_CRIO}/crio.conf")]
    settings += sorted(node.real(f"{_CRIO}/crio.conf.d").glob("*"))
    named = ""
    for path in settings:
        content = (files.read(path) or b"") if path.is_file() else b""
        if _NAMED.search(content):
            found = toml.get(toml.load(content, str(path)), ["crio", "image"])
            named = str(found.get("signature_policy") or named)
    if named:
        yield named
    elif node.exists(f"{_CRIO}/policy.json"):
        yield f"{_CRIO}/policy.json"
    for path in sorted(node.real(f"{_CRIO}/policies").glob("*.json")):
        yield f"{_CRIO}/policies/{path.name}"


def _rewritten(
    setup: Setup, path: str, shared_path: str, shared: bytes, before: bytes | None
) -> bytes:
    """Return a policy that takes our images: one of the file, or of that which it stands in for."""
    content = shared if before is None else before
    policy = json.load(content, shared_path if before is None else path)
    needs = _needs(policy, setup, path)
    for need in needs:
        if need.kind == _REJECTED or not setup.relaxed:
            raise need.refusal(shared_path if before is None else path)
    if not needs:
        return content
    transports = json.part(policy, "transports", path)
    taken = {need.scope: [{"type": _ANY}] for need in needs}
    scopes = {**json.part(transports, _TRANSPORT, path), **taken}
    return json.dump({**policy, "transports": {**transports, _TRANSPORT: scopes}}, content)


def _needs(policy: Mapping[str, Any], setup: Setup, path: str) -> list[Need]:
    """Tell what a policy has against us, at the names of registries and below them."""
    found = []
    scopes = json.part(json.part(dict(policy), "transports", path), _TRANSPORT, path)
    for namespace in setup.namespaces:
        name = namespace.name
        at = next((scope for scope in _covering(name) if scope in scopes), None)
        kind = _kind(dict(policy), "default", path) if at is None else _kind(scopes, at, path)
        where = "its default" if at is None else f'transports.{_TRANSPORT} "{at}"'
        if kind:
            found.append(Need(kind, where, name, name))
        for scope in scopes:
            kind = _kind(scopes, scope, path) if scope.startswith(f"{name}/") else ""
            # What is rejected below is so by every name, and whoever pulls it is told.
            if kind and kind != _REJECTED:
                found.append(Need(kind, f'transports.{_TRANSPORT} "{scope}"', name, scope))
    return found


def _covering(name: str) -> Iterator[str]:
    """Yield the scopes that may have a registry's name, in the order in which they count."""
    while True:
        yield name
        if "/" not in name:
            break
        name = name.rpartition("/")[0]
    host = name.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""


def _kind(scopes: dict[str, Any], scope: str, path: str) -> str:
    """Tell the first requirement that an image without signatures does not meet."""
    for one in json.part(scopes, scope, path, list):
        kind = str(one.get("type")) if isinstance(one, dict) else ""
        if kind not in ("", _ANY):
            return kind
    return ""
