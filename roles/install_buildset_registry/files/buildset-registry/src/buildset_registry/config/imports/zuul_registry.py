# SPDX-License-Identifier: Apache-2.0
"""zuul-registry's ``registry.yaml`` (1.3.0): address, certificate, users, storage."""

from __future__ import annotations

from typing import Any

from buildset_registry.config.imports.tree import Tree, endpoint
from buildset_registry.errors import ConfigError

#: Bytes of a password that bcrypt reads.
_LONGEST = 72

_Result = tuple[dict[str, Any], tuple[str, ...], dict[str, str]]

_COPIED = (
    "its images are in a layout of its own: start this registry with a storage of its own and "
    "another port beside the old one, copy the images by buildset-registry copy --all-tags, then "
    "change the port; the documentation has the commands (Move from zuul-jobs and zuul-registry)"
)

#: Its names of an S3 bucket's parameters, and distribution's.
_S3 = {
    "bucket": "bucket",
    "region": "region",
    "endpoint": "regionendpoint",
    "access-key": "accesskey",
    "secret-key": "secretkey",
}


def from_zuul_registry(tree: dict[str, Any], source: str) -> _Result:
    """Return what a configuration becomes, what to say of it, and its users' passwords."""
    reader = Tree(tree, source)
    notes = [_COPIED]
    config: dict[str, Any] = {"endpoints": {"single": _endpoint(reader)}}
    config["storage"] = _storage(reader, notes)
    certificate, key = reader.text("registry.tls-cert"), reader.text("registry.tls-key")
    if certificate and key:
        config["tls"] = {"certificate": certificate, "key": key}
    users = reader.list("registry.users")
    config["auth"], passwords = _auth(users, source)
    for settled in ("registry.secret", "registry.public-url"):
        reader.take(settled)
    notes += [f"{key}: has no equal here" for key in reader.left()]
    return config, tuple(notes), passwords


def _endpoint(reader: Tree) -> dict[str, Any]:
    address, port = reader.text("registry.address"), reader.text("registry.port")
    if port is None or not port.isdecimal():
        raise reader.error("registry.port", "a port from 1 to 65535", port)
    return endpoint(address or "", int(port))


def _storage(reader: Tree, notes: list[str]) -> str | dict[str, Any]:
    """Return a storage beside the old one, at the same kind of place."""
    driver = reader.text("registry.storage.driver")
    expiration = reader.text("registry.storage.expiration")
    if expiration:
        notes.append(
            f"registry.storage.expiration: nothing goes by its age alone ({expiration} seconds "
            "there); what is in use would go, too"
        )
    if driver == "filesystem":
        root = reader.text("registry.storage.root") or "/storage"
        return f"{root.rstrip('/')}/buildset-registry"
    if driver == "s3":
        return {"s3": _bucket(reader)}
    if driver == "swift":
        cloud = reader.text("registry.storage.cloud")
        notes.append(
            f"registry.storage.cloud: put what clouds.yaml has of {cloud} in storage.swift"
        )
        container = reader.text("registry.storage.container")
        return {"swift": {"container": container, "prefix": "buildset-registry"}}
    raise reader.error("registry.storage.driver", "filesystem, swift or s3", driver)


def _bucket(reader: Tree) -> dict[str, Any]:
    found = {
        ours: value
        for theirs, ours in _S3.items()
        if (value := reader.text(f"registry.storage.{theirs}"))
    }
    return {"region": "us-east-1", **found, "rootdirectory": "/buildset-registry"}


def _auth(users: list[Any], source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the users' rights; nobody needs a login to read where no user is only a reader."""
    passwords: dict[str, str] = {}
    access: dict[str, list[str]] = {"read": [], "write": []}
    for number, user in enumerate(users):
        keys = {"name", "pass", "access"}
        known = isinstance(user, dict) and keys <= user.keys()
        if not known or str(user["access"]) not in access:
            raise ConfigError(
                f"{source}: registry.users[{number}] needs name, pass, and access: read or write"
            )
        name, word = str(user["name"]), str(user["pass"])
        _check_user(name, word, f"{source}: registry.users[{number}]")
        passwords[name] = word
        access[str(user["access"])].append(name)
    rules = [
        {"users": names, "repositories": ["**"], "actions": actions}
        for names, actions in ((access["write"], ["*"]), (access["read"], ["pull"]))
        if names
    ]
    auth: dict[str, Any] = {"htpasswd": "htpasswd", "anonymous_pull": not access["read"]}
    return auth | ({"rules": rules} if rules else {}), passwords


def _check_user(name: str, word: str, where: str) -> None:
    """Refuse what no line of an htpasswd file can say."""
    if not name.isprintable() or not name or ":" in name:
        raise ConfigError(f"{where}: a name has no colon, and no control characters")
    if "\0" in word or len(word.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise ConfigError(
            f"{where}: bcrypt takes no password of more than {_LONGEST} bytes, nor one with NUL; "
            "give the user another one there first"
        )
