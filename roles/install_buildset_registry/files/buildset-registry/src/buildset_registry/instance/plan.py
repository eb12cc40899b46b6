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
from buildset_registry.connect_proxy import certificate_names
from buildset_registry.errors import ConfigError
from buildset_registry.instance.options import Names, Options, Tree, choose_names, configure
from buildset_registry.instance.paths import InstancePaths, read_file, write_file

USER = "buildset"
_BCRYPT_ROUNDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The configuration as it is to be, and what is missing for it."""

    place: InstancePaths
    names: Names
    tree: Tree
    config: Config
    changes: tuple[str, ...]
    proxy_names: list[str]
    """What the proxy's own certificate has to be good for; once there, it stays."""

    before: str | None = field(repr=False)
    """The text of the configuration file as it was."""

    def write(self, supervisor: str) -> None:
        """Make what is missing; what is there already stays."""
        told: Tree = {"host": self.names.host, "alias": self.names.alias, "supervisor": supervisor}
        told |= {"certificate_names": self.names.all, "proxy_names": self.proxy_names}
        text = json.dumps(told, indent=1) + "\n"
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
        proxy = self.config.proxy
        pairs = [pair for pair in (self.config.tls, proxy.tls if proxy else None) if pair]
        files = [self.place.config, *(path for tls in pairs for path in (tls.certificate, tls.key))]
        parts += [path.read_bytes() for path in files if path.exists()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _write_certificate(self) -> None:
        from buildset_registry.instance.certificate import issue

        place = self.place
        issued = issue(self.names.all, *([self.proxy_names] if self.proxy_names else []))
        files = [(place.key, place.certificate), (place.proxy_key, place.proxy_certificate)]
        for leaf, (key, certificate) in zip(issued.leaves, files, strict=False):
            write_file(key, leaf.key, 0o600)
            write_file(certificate, leaf.chain)
        write_file(place.authority, issued.authority)

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


def make_plan(place: InstancePaths, options: Options) -> Plan:
    """Compare what is there with what was asked for; nothing is written."""
    known = _read_instance(place)
    names = choose_names(options, known)
    before = read_file(place.config)
    tree = _load(before, place.config)
    wanted = configure(tree, options)
    config = parse(wanted, str(place.config), place.root)
    proxy_names = _proxy_names(place, config) or known.get("proxy_names", [])
    changes = []
    if _needs_certificate(place, config, names, proxy_names, known):
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
        proxy_names=proxy_names,
        before=before,
    )


def read_facts(place: InstancePaths) -> dict[str, Any] | None:
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
        **({"proxy_port": config.proxy.port} if config.proxy else {}),
    }


def read_supervisor(place: InstancePaths) -> str | None:
    """Return what runs the registry, as it was written down at its last start."""
    told = _read_instance(place).get("supervisor")
    return told if isinstance(told, str) else None


def _needs_certificate(
    place: InstancePaths,
    config: Config,
    names: Names,
    proxy_names: list[str],
    known: dict[str, Any],
) -> bool:
    """Tell whether our own certificates are missing, or are for other names; a user's are not ours.

    All are made at once, by an authority that is forgotten then.
    """
    if config.tls is None or config.tls.certificate != place.certificate:
        return False
    files = [place.authority, place.certificate, place.key]
    if proxy_names:
        files += [place.proxy_certificate, place.proxy_key]
    wanted = (names.all, proxy_names)
    return not _all_there(files) or wanted != (
        known.get("certificate_names"),
        known.get("proxy_names", []),
    )


def _proxy_names(place: InstancePaths, config: Config) -> list[str]:
    """Return what our own certificate of the proxy is to be good for; nothing without one."""
    if config.proxy is None or config.proxy.tls.certificate != place.proxy_certificate:
        return []
    return certificate_names(config.proxied)


def _all_there(paths: Iterable[Path]) -> bool:
    return all(path.exists() and path.stat().st_size for path in paths)


def _read_instance(place: InstancePaths) -> dict[str, Any]:
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
