# SPDX-License-Identifier: Apache-2.0
"""Sections of the configuration, given by ``up --settings-file``, with users and a key.

A section is as it is given, or as by default where that is nothing, or none where it is false.
Three things have files of their own in the registry's folder: users with their passwords, of which
the htpasswd file is made, and the key of the tokens, which replicas share.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildset_registry.errors import ConfigError
from buildset_registry.yaml_text import read_yaml

USER = "buildset"
_BCRYPT_ROUNDS = 10
#: What bcrypt takes of a password.
_LONGEST = 72
_LEAST_KEY = 32


@dataclass(frozen=True, slots=True)
class Sections:
    """Sections, users and a key; none, where the option is not given."""

    tree: Mapping[str, Any] = field(default_factory=dict, repr=False)
    users: Mapping[str, str] | None = field(default=None, repr=False)
    """Passwords by the users' names: these users and no others, besides ``up``'s own."""

    token_key: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, text: str, source: str) -> Sections:
        """Read a document; ``ConfigError`` says what is wrong in it, and no secret."""
        tree = read_yaml(text, source)
        if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
            raise ConfigError(f"{source} must be a mapping of sections of the configuration")
        users, key = tree.pop("users", None), tree.pop("token_key", None)
        return cls(tree, _users(users, source), _token_key(key, source))

    def apply(self, tree: dict[str, Any]) -> None:
        """Put the sections into a configuration."""
        for name, section in self.tree.items():
            if section is None:
                tree.pop(name, None)
            else:
                tree[name] = None if section is False else section
        if tree.get("acme"):
            tree.pop("tls", None)


def htpasswd_is_current(before: str, users: Mapping[str, str]) -> bool:
    """Tell whether a file has these users, each with the password, and no others but our own."""
    hashes = _hashes(before)
    hashes.pop(USER, None)
    return set(hashes) == set(users) and all(
        _verifies(password, hashes[name]) for name, password in users.items()
    )


def htpasswd_text(before: str, own: str, users: Mapping[str, str] | None) -> str:
    """Return the file with our own user's password, and these users or else those of before.

    A hash that verifies its password stays.
    """
    hashes = _hashes(before)
    wanted = {USER: own, **(users or {})}
    lines = {} if users is not None else {name: hashes[name] for name in hashes if name != USER}
    made = {
        name: hashes[name] if _verifies(password, hashes.get(name)) else _hashed(password)
        for name, password in wanted.items()
    }
    return "".join(f"{name}:{hashed}\n" for name, hashed in {**made, **lines}.items())


def _hashes(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: hashed for name, _colon, hashed in pairs}


def _verifies(password: str, hashed: str | None) -> bool:
    from passlib.hash import bcrypt

    try:
        return hashed is not None and bool(bcrypt.verify(password, hashed))
    except ValueError:
        return False


def _hashed(password: str) -> str:
    from passlib.hash import bcrypt

    return str(bcrypt.using(rounds=_BCRYPT_ROUNDS).hash(password))


def _users(given: object, source: str) -> Mapping[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, list):
        raise ConfigError(f"{source}: users must be a list, each with name and password")
    found: dict[str, str] = {}
    for number, one in enumerate(given):
        where = f"{source}: users[{number}]"
        if not isinstance(one, dict) or set(one) != {"name", "password"}:
            raise ConfigError(f"{where} must have name and password, and nothing else")
        name, password = one["name"], one["password"]
        _check_user(where, name, password)
        if name in found:
            raise ConfigError(f"{where}: the user {name} is listed twice; keep one of them")
        found[name] = password
    return found


def _check_user(where: str, name: object, password: object) -> None:
    if not isinstance(name, str) or not name or not name.isprintable() or ":" in name:
        raise ConfigError(f"{where}: the name is not text without colons; give another one")
    if name == USER:
        raise ConfigError(f"{where}: {USER} is the user that up makes; give another name")
    text = password.encode(errors="replace") if isinstance(password, str) else b""
    if not 0 < len(text) <= _LONGEST or b"\0" in text or text.decode() != password:
        raise ConfigError(f"{where}: the password of {name} is not text of 1 to {_LONGEST} bytes")


def _token_key(given: object, source: str) -> bytes | None:
    if given is None:
        return None
    try:
        key = base64.b64decode(str(given), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _LEAST_KEY:
        raise ConfigError(f"{source}: token_key is not {_LEAST_KEY} bytes or more in base64")
    return key
