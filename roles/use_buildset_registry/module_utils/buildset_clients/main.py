# SPDX-License-Identifier: Apache-2.0
"""The whole work: the files, the daemons that read them, and the canary.

Nothing in this package knows Ansible. Its syntax is that of Python 3.8, which nodes may have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import backups, files, masking
from .backups import Backups
from .canary import run
from .clients import table
from .errors import ClientError
from .node import ManagedNode
from .registry import Setup
from .transaction import Transaction

#: The names of all clients, as users give them.
NAMES = table.NAMES


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

    as_user: bool = False
    """Whether a user who is not root leaves the node's own daemons as they are."""

    dry: bool = False
    """Whether nothing is written."""


def use(order: Order, setup: Setup, node: ManagedNode | None = None) -> dict[str, Any]:
    """Configure the clients; return what a module tells."""
    table.refuse_restarts(order.commands)
    node = node or ManagedNode.here(order.users)
    left_out = _left_out(order, node)
    names = order.clients or table.present(node)
    table.refuse(node, names)
    transaction = _begin(node)
    transaction.plan(table.edits(node, setup, names, order.store))
    result = {"clients": names, **_carry_out(order, transaction)}
    result["notes"] += filter(None, [left_out, table.unnamed(node, setup)])
    tried: list[str] = []
    if not order.dry:
        table.await_names(node, result["paths"])
    if order.canary and not order.dry:
        tried = _prove(node, setup, names, left_out)
        result["notes"] += run.untried(node, names, tried)
    result["notes"] += [] if order.canary or order.dry else run.unproven(node, setup, names)
    return {**result, "tried": tried}


def _left_out(order: Order, node: ManagedNode) -> str:
    """Tell which daemons an ordinary user leaves out; refuse that where it was not chosen."""
    names = table.left_out(node)
    if not names:
        return ""
    what = f"{', '.join(names)}: the daemon is root's, and {node.me.name} is not root"
    if not order.clients and not order.as_user:
        choice = "buildset_registry_become: false configures this user's own tools only"
        raise ClientError(
            f"{what}; become root (become: true, or sudo without a password); {choice}"
        )
    return f"{what}, so it goes on as it is; become root to configure it"


def _prove(node: ManagedNode, setup: Setup, names: list[str], left_out: str) -> list[str]:
    try:
        return run.prove(node, setup, names)
    except ClientError as error:
        raise ClientError("; ".join(filter(None, [str(error), left_out]))) from error


def restore(order: Order, node: ManagedNode | None = None) -> dict[str, Any]:
    """Make every file what it was."""
    table.refuse_restarts(order.commands)
    transaction = _begin(node or ManagedNode.here(order.users))
    transaction.plan([])
    warnings = [] if order.dry else table.forget(transaction, order.commands)
    result = _carry_out(order, transaction)
    result["notes"] += warnings
    return {"clients": [], "tried": [], **result}


def _begin(node: ManagedNode) -> Transaction:
    return Transaction(node, Backups(backups.folder(node)))


def _carry_out(order: Order, transaction: Transaction) -> dict[str, Any]:
    outcome, node, since = transaction.outcome, transaction.node, time.time()
    warnings = [*node.notes, *outcome.warnings]
    if not order.dry:
        with files.readable():
            transaction.carry_out()
            warnings += _tell(order, transaction)
            warnings += table.refresh(node, order.commands, outcome.paths, since)
    return {
        "changed": outcome.changed,
        "paths": outcome.paths,
        "difference": outcome.difference,
        "notes": [masking.mask_logins(warning) for warning in warnings if warning],
    }


def _tell(order: Order, transaction: Transaction) -> list[str]:
    """Have daemons take what is in their files, all that can; the next run tries the others."""
    warnings, failed = [], []
    for name, action in transaction.outcome.actions.items():
        try:
            warnings.append(table.tell(transaction.node, order.commands, name, action))
            transaction.settle(name)
        except ClientError as error:
            failed.append(str(error))
    if failed:
        raise ClientError("; ".join(failed))
    return warnings
