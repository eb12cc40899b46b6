# SPDX-License-Identifier: Apache-2.0
"""What ``up`` finds in a registry's folder, and the files that it would write."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from buildset_registry import __version__
from buildset_registry.config import Config, parse
from buildset_registry.errors import ConfigError
from buildset_registry.instance.place import Place, read_file, write_file
from buildset_registry.instance.settings import Names, Options, Tree, choose_names, configure

USER = "buildset"
_BCRYPT_ROUNDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The configuration as it is to be, and what is missing for it."""

    place: Place
    names: Names
    tree: Tree
    config: Config
    changes: tuple[str, ...]
    before: str | None = field(repr=False)
    """The text of the configuration file as it was."""

    def write(self, supervisor: str) -> None:
        """Make what is missing; what is there already stays."""
        told = {"host": self.names.host, "alias": self.names.alias, "supervisor": supervisor}
        text = json.dumps(told | {"certificate_names": self.names.all}, indent=1) + "\n"
        if "certificate" in self.changes:
            self._write_certificate()
        if "credentials" in self.changes:
            self._write_credentials()
        if read_file(self.place.instance) != text:
            write_file(self.place.instance, text)
        if "configuration" in self.changes:
            write_file(self.place.config, _dump(self.tree), 0o600)

    def undo(self) -> None:
        """Put the configuration back that was there before."""
        if "configuration" not in self.changes:
            return
        if self.before is None:
            self.place.config.unlink(missing_ok=True)
        else:
            write_file(self.place.config, self.before, 0o600)

    def stamp(self) -> str:
        """Return what tells whether a running server is what would be started now."""
        parts = [_program_version().encode()]
        tls = self.config.tls
        files = [self.place.config, *((tls.certificate, tls.key) if tls else ())]
        parts += [path.read_bytes() for path in files if path.exists()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _write_certificate(self) -> None:
        from buildset_registry.instance.certificate import make_pair

        pair = make_pair(self.names.all)
        write_file(self.place.key, pair.key, 0o600)
        write_file(self.place.certificate, pair.chain)
        write_file(self.place.authority, pair.authority)

    def _write_credentials(self) -> None:
        """Make a password and its hash; other users of the file stay."""
        from passlib.hash import bcrypt

        place = self.place
        password = (read_file(place.password) or "").strip() or secrets.token_urlsafe(24)
        write_file(place.password, password, 0o600)
        others = [
            line
            for line in (read_file(place.htpasswd) or "").splitlines()
            if line and not line.startswith(f"{USER}:")
        ]
        hashed = bcrypt.using(rounds=_BCRYPT_ROUNDS).hash(password)
        write_file(place.htpasswd, "\n".join([f"{USER}:{hashed}", *others, ""]), 0o600)
        if not place.token_key.exists():
            write_file(place.token_key, secrets.token_bytes(32), 0o600)


def make_plan(place: Place, options: Options) -> Plan:
    """Compare what is there with what was asked for; nothing is written."""
    known = _read_instance(place)
    names = choose_names(options, known)
    before = read_file(place.config)
    tree = _load(before, place.config)
    wanted = configure(tree, options)
    config = parse(wanted, str(place.config), place.root)
    changes = []
    if _needs_certificate(place, config, names, known):
        changes.append("certificate")
    if not _all_there((place.password, place.htpasswd, place.token_key)):
        changes.append("credentials")
    if before is None or wanted != tree:
        changes.append("configuration")
    return Plan(
        place=place,
        names=names,
        tree=wanted,
        config=config,
        changes=tuple(changes),
        before=before,
    )


def read_facts(place: Place) -> dict[str, Any] | None:
    """Return how to use the registry, or None where it is not set up (DESIGN: facts)."""
    known = _read_instance(place)
    text = read_file(place.config)
    password = read_file(place.password)
    if not known or text is None or password is None:
        return None
    config = parse(_load(text, place.config), str(place.config), place.root)
    main = config.endpoints.single or config.endpoints.pull
    push = config.endpoints.single or config.endpoints.push
    own = config.tls is None or config.tls.certificate == place.certificate
    trusted = place.authority if own or config.tls is None else config.tls.certificate
    return {
        "host": known["host"],
        "port": main.port if main else None,
        "push_host": known["host"],
        "push_port": push.port if push else None,
        "username": USER,
        "password": password.strip(),
        "cert": read_file(trusted),
    }


def read_supervisor(place: Place) -> str | None:
    """Return what runs the registry, as it was written down at its last start."""
    told = _read_instance(place).get("supervisor")
    return told if isinstance(told, str) else None


def _needs_certificate(place: Place, config: Config, names: Names, known: dict[str, Any]) -> bool:
    """Tell whether our own certificate is missing, or is for other names; a user's is not ours."""
    if config.tls is None or config.tls.certificate != place.certificate:
        return False
    there = _all_there((place.authority, place.certificate, place.key))
    return not there or known.get("certificate_names") != names.all


def _all_there(paths: Iterable[Path]) -> bool:
    return all(path.exists() and path.stat().st_size for path in paths)


def _read_instance(place: Place) -> dict[str, Any]:
    text = read_file(place.instance)
    try:
        tree = json.loads(text) if text else {}
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise ConfigError(f"{place.instance} is not what was written there; remove it")
    return tree


def _load(text: str | None, path: Path) -> Tree:
    try:
        tree = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {reason}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping; mend it, or remove it to have it made anew")
    return tree


def _dump(tree: Tree) -> str:
    head = "# Written by `buildset-registry up`; it keeps what is changed here by hand.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _program_version() -> str:
    """Return the installed version, which ends in a hash of the content where a role made it."""
    try:
        return version("buildset-registry")
    except PackageNotFoundError:
        return __version__
