# SPDX-License-Identifier: Apache-2.0
"""The whole work: the files, the daemons that read them, and the canary.

Nothing in this package knows Ansible. Its syntax is that of Python 3.8, which nodes may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import backups
from .backups import Backups
from .canary import run
from .clients import table
from .errors import ClientError
from .node import ManagedNode
from .registry import Setup
from .transaction import Transaction

#: The names of all clients, as users give them; and the commands that restart them, checked.
NAMES = table.NAMES
restart_commands = table.restart_commands


@dataclass(frozen=True)
class Order:
    """The user's choices."""

    users: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    """The clients to configure; those that the node has, if empty."""

    store: bool = True
    """Whether the system's store is to trust the registry."""

    commands: Mapping[str, str] = field(default_factory=dict)
    """The commands that restart daemons, by client."""

    canary: bool = False
    """Whether the clients are tried afterwards."""

    dry: bool = False
    """Whether nothing is written."""


def use(order: Order, setup: Setup, node: ManagedNode | None = None) -> dict[str, Any]:
    """Configure the clients; return what a module tells."""
    node = node or ManagedNode.here(order.users)
    names = order.clients or table.present(node)
    transaction = _begin(node)
    transaction.plan(table.edits(node, setup, names, order.store))
    result = {"clients": names, **_carry_out(order, transaction)}
    tried: list[str] = []
    if order.canary and not order.dry:
        tried = run.prove(node, setup, names)
        result["notes"] += run.untried(node, names, tried)
    result["notes"] += [] if order.canary or order.dry else run.unproven(node, setup, names)
    return {**result, "tried": tried}


def restore(order: Order, node: ManagedNode | None = None) -> dict[str, Any]:
    """Make every file what it was."""
    transaction = _begin(node or ManagedNode.here(order.users))
    transaction.plan([])
    warnings = [] if order.dry else table.forget(transaction, order.commands)
    result = _carry_out(order, transaction)
    result["notes"] += warnings
    return {"clients": [], "tried": [], **result}


def _begin(node: ManagedNode) -> Transaction:
    return Transaction(node, Backups(backups.folder(node)))


def _carry_out(order: Order, transaction: Transaction) -> dict[str, Any]:
    outcome = transaction.outcome
    warnings = list(outcome.warnings)
    if not order.dry:
        try:
            transaction.carry_out()
        except OSError as error:
            raise ClientError(f"{error.filename}: cannot be written ({error.strerror})") from error
        for name, action in outcome.actions.items():
            warnings.append(table.tell(transaction.node, order.commands, name, action))
    return {
        "changed": outcome.changed,
        "paths": outcome.paths,
        "difference": outcome.difference,
        "notes": [warning for warning in warnings if warning],
    }
