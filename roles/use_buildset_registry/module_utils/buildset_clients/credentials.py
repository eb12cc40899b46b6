# SPDX-License-Identifier: Apache-2.0
"""Logins in docker's config.json and in auth.json, beside those that users have.

containers-auth.json(5) has the form of docker's file. docker asks a credential store for every
registry where one is set, and its file where ``credHelpers`` has an empty name for the registry.
"""

from __future__ import annotations

from .edits import JSON, Change, Edit
from .jsontext import dump, load, part
from .node import Account, Node
from .registry import Registry

#: Files of a user's home, and the client that they are written for.
_FILES = {".docker/config.json": "docker", ".config/containers/auth.json": "containers"}


def edits(node: Node, registry: Registry) -> list[Edit]:
    """Log every user in, for all tools that read these files."""
    return [
        _edit(account, f"{account.home}/{name}", client, registry)
        for account in node.accounts
        for name, client in _FILES.items()
    ]


def _edit(account: Account, path: str, client: str, registry: Registry) -> Edit:
    change = _adding(path, client, registry)
    return Edit(client, path, JSON, change, mode=0o600, secret=True, account=account)


def _adding(path: str, client: str, registry: Registry) -> Change:
    def change(before: bytes | None) -> bytes:
        found = load(before, path)
        logins = {address: {"auth": registry.login} for address in registry.addresses}
        result = {**found, "auths": {**part(found, "auths", path), **logins}}
        if client == "docker" and found.get("credsStore"):
            helpers = dict.fromkeys(registry.addresses, "")
            result["credHelpers"] = {**part(found, "credHelpers", path), **helpers}
        return dump(result, before, "\t")

    return change
