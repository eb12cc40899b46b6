# SPDX-License-Identifier: Apache-2.0
"""The whole work: the files, the daemons that read them, and the proof.

Nothing in this package knows Ansible. Its syntax is that of Python 3.8, which nodes may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import forgetting, ledger, plan, proof
from .applying import Applying, Outcome
from .daemons import Daemons
from .errors import ClientError
from .ledger import Ledger
from .node import Node
from .registry import Namespace, Registry, Wanted


@dataclass(frozen=True)
class Order:
    """What the user wants."""

    users: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    """The clients to configure; those that the node has, if empty."""

    store: bool = True
    """Whether the system's store is to trust the registry."""

    commands: Mapping[str, str] = field(default_factory=dict)
    """How to restart daemons, by client."""

    canary: bool = False
    """Whether the clients are tried afterwards."""

    dry: bool = False
    """Whether nothing is written."""


def wanted(
    facts: Mapping[str, Any], alias: str, namespaces: list[list[str]], unqualified: list[str]
) -> Wanted:
    """Read the facts of a registry, and what it stands in for."""
    host, port = str(facts["host"]), int(facts["port"])
    push_host, push_port = facts.get("push_host") or host, facts.get("push_port") or port
    registry = Registry(
        host=host,
        port=port,
        push_host=str(push_host),
        push_port=int(push_port),
        username=str(facts["username"]),
        password=str(facts["password"]),
        cert=str(facts["cert"]),
        alias=alias,
        proxy_port=int(facts.get("proxy_port") or 0),
    )
    known = tuple(Namespace(str(name), str(url)) for name, url in namespaces)
    return Wanted(registry, known, tuple(unqualified))


def use(order: Order, what: Wanted, node: Node | None = None) -> dict[str, Any]:
    """Configure the clients; return what a module tells."""
    node = node or Node.here(order.users)
    daemons = Daemons(node, order.commands)
    clients = order.clients or plan.present(node)
    edits = plan.edits(node, what, clients, daemons, order.store)
    applying = Applying(node, Ledger(ledger.folder(node)))
    outcome = applying.plan(edits)
    result = {"clients": clients, **_carry_out(order, applying, outcome, daemons)}
    tried: list[str] = []
    if order.canary and not order.dry:
        tried = proof.prove(node, what, clients)
        result["notes"] += proof.untried(clients, tried)
    return {**result, "tried": tried}


def restore(order: Order, node: Node | None = None) -> dict[str, Any]:
    """Make every file what it was."""
    node = node or Node.here(order.users)
    applying = Applying(node, Ledger(ledger.folder(node)))
    outcome = applying.plan([])
    daemons = Daemons(node, order.commands)
    forgotten = order.dry or forgetting.forget(applying, daemons)
    result = _carry_out(order, applying, outcome, daemons)
    if not forgotten:
        result["notes"].append("docker asks the registry first until it is restarted")
    return {"clients": [], "tried": [], **result}


def _carry_out(
    order: Order, applying: Applying, outcome: Outcome, daemons: Daemons
) -> dict[str, Any]:
    warnings = list(outcome.warnings)
    if not order.dry:
        try:
            applying.carry_out()
        except OSError as error:
            raise ClientError(f"{error.filename}: cannot be written ({error.strerror})") from error
        warnings += [daemons.tell(*action) for action in outcome.actions.items()]
    return {
        "changed": outcome.changed,
        "paths": outcome.paths,
        "difference": outcome.difference,
        "notes": [warning for warning in warnings if warning],
    }
