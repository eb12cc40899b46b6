# SPDX-License-Identifier: Apache-2.0
"""The plan of ``up``: what is missing in a registry's folder, and the files to be written."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from buildset_registry import __version__
from buildset_registry.config import Config, parse
from buildset_registry.connect_proxy import certificate_names
from buildset_registry.errors import ConfigError
from buildset_registry.files import write_file
from buildset_registry.instance.options import HostNames, Options, Tree, choose_names, configure
from buildset_registry.instance.paths import InstancePaths, make_folder, read_file
from buildset_registry.instance.probe import Probe
from buildset_registry.instance.sections import (
    USER,
    Sections,
    htpasswd_is_current,
    htpasswd_text,
)
from buildset_registry.yaml_text import read_yaml

#: How long before its end a certificate is made anew: longer than a buildset takes.
_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The configuration as it is to be, and the changes that lead to it."""

    paths: InstancePaths
    names: HostNames
    tree: Tree
    config: Config
    changes: tuple[str, ...]
    proxy_names: list[str]
    """The names that the proxy's own certificate has to be good for; once there, they stay."""

    before: str | None = field(repr=False)
    """The text of the configuration file as it was."""

    sections: Sections = field(default_factory=Sections)
    """Users and keys that were given."""

    lock: str | None = None
    """The text of the lock that is to be replayed; None where it stays."""

    lock_before: str | None = None
    """The text of the one in whose place it is put."""

    @property
    def probe(self) -> Probe:
        """Return how to tell whether the registry answers."""
        return Probe.of(self.config, self.paths)

    @property
    def log(self) -> Path | None:
        """Return the file of the log."""
        return self.config.log.file

    def write(self, supervisor: str) -> None:
        """Make what is missing; what is there already stays."""
        record: Tree = {
            "host": self.names.host,
            "alias": self.names.alias,
            "supervisor": supervisor,
        }
        record |= {"certificate_names": self.names.all, "proxy_names": self.proxy_names}
        text = json.dumps(record, indent=1) + "\n"
        if "certificate" in self.changes:
            self._write_certificate()
        if "credentials" in self.changes:
            self._write_credentials()
        if self.lock is not None and self.config.lock is not None:
            file = self.config.lock.file
            make_folder(file.parent)
            write_file(file, self.lock)
        if read_file(self.paths.instance) != text:
            write_file(self.paths.instance, text)
        if "configuration" in self.changes:
            write_file(self.paths.config, _dump(self.tree), 0o600)

    def undo(self) -> None:
        """Put the configuration back that was there before, and the lock."""
        if self.lock_before is not None and self.config.lock is not None:
            write_file(self.config.lock.file, self.lock_before)
        if "configuration" not in self.changes:
            return
        if self.before is None:
            self.paths.config.unlink(missing_ok=True)
        else:
            write_file(self.paths.config, self.before, 0o600)

    def stamp(self) -> str:
        """Return a hash that tells whether a running server is what would be started now."""
        parts = [_program_version().encode()]
        proxy, tls = self.config.proxy, self.config.tls
        # A pair of the user's own is served as soon as it is replaced.
        own = tls if tls and tls.certificate == self.paths.certificate else None
        pairs = [pair for pair in (own, proxy.tls if proxy else None) if pair]
        files = [self.paths.config, *(path for tls in pairs for path in (tls.certificate, tls.key))]
        files += _lock_files(self.config)
        files += [self.paths.token_key] if self.paths.token_key.exists() else []
        parts += [path.read_bytes() for path in files if path.exists()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def _write_certificate(self) -> None:
        from buildset_registry.instance.certificate import issue

        paths = self.paths
        issued = issue(self.names.all, *([self.proxy_names] if self.proxy_names else []))
        files = [(paths.key, paths.certificate), (paths.proxy_key, paths.proxy_certificate)]
        for leaf, (key, certificate) in zip(issued.leaves, files, strict=False):
            write_file(key, leaf.key, 0o600)
            write_file(certificate, leaf.chain)
        write_file(paths.authority, issued.authority)

    def _write_credentials(self) -> None:
        """Make a password and its hash; other users of the file stay, unless users are given."""
        paths = self.paths
        password = (read_file(paths.password) or "").strip() or secrets.token_urlsafe(24)
        write_file(paths.password, password, 0o600)
        before = read_file(paths.htpasswd) or ""
        text = htpasswd_text(before, password, self.sections.users)
        if text != before:
            write_file(paths.htpasswd, text, 0o600)
        if self.sections.token_key is not None:
            write_file(paths.token_key, self.sections.token_key, 0o600)
        elif not paths.token_key.exists():
            write_file(paths.token_key, secrets.token_bytes(32), 0o600)


def make_plan(paths: InstancePaths, options: Options) -> Plan:
    """Compare what is there with the options; nothing is written."""
    recorded = _read_instance(paths)
    names = choose_names(options, recorded)
    before = read_file(paths.config)
    tree = _load(before, paths.config)
    new = configure(tree, options)
    config = parse(new, str(paths.config), paths.root)
    proxy_names = _proxy_names(paths, config, recorded.get("proxy_names", []))
    changes = []
    if _needs_certificate(paths, config, names, proxy_names, recorded):
        changes.append("certificate")
    if not _all_there((paths.password, paths.htpasswd, paths.token_key)) or _given(paths, options):
        changes.append("credentials")
    if before is None or new != tree:
        changes.append("configuration")
    lock = _lock(options, config)
    if lock is not None:
        changes.append("lock")
    return Plan(
        paths=paths,
        names=names,
        tree=new,
        config=config,
        changes=tuple(changes),
        proxy_names=proxy_names,
        before=before,
        sections=options.sections,
        lock=lock,
        lock_before=read_file(config.lock.file) if lock and config.lock else None,
    )


def _given(paths: InstancePaths, options: Options) -> bool:
    """Tell whether the users or the key that are given differ from what is there."""
    users, key = options.sections.users, options.sections.token_key
    if users is not None and not htpasswd_is_current(read_file(paths.htpasswd) or "", users):
        return True
    return key is not None and (not paths.token_key.exists() or paths.token_key.read_bytes() != key)


def _lock(options: Options, config: Config) -> str | None:
    """Return the text of the lock where it is not there yet; ``ConfigError`` where it is wrong."""
    if config.lock is None or options.lock.file is None:
        return None
    from buildset_registry.image_lock.document import ImageLock
    from buildset_registry.image_lock.folder import ImageFolder
    from buildset_registry.image_lock.table import check_configured

    lock = ImageLock.load(options.lock.file)
    check_configured(lock, [upstream.name for upstream in config.upstreams])
    if config.lock.images is not None:
        ImageFolder(config.lock.images, lock)
    text = options.lock.file.read_text(encoding="utf-8")
    return None if read_file(config.lock.file) == text else text


def _lock_files(config: Config) -> list[Path]:
    """Return the files that a running server has read of a lock and its images."""
    if config.lock is None:
        return []
    return [config.lock.file, *([config.lock.images / "index.json"] if config.lock.images else [])]


def read_facts(paths: InstancePaths) -> dict[str, Any] | None:
    """Return the facts, which say how to use the registry, or None where it is not set up."""
    recorded = _read_instance(paths)
    text = read_file(paths.config)
    password = read_file(paths.password)
    if not recorded or text is None or password is None:
        return None
    config = parse(_load(text, paths.config), str(paths.config), paths.root)
    main = config.endpoints.single or config.endpoints.pull
    push = config.endpoints.single or config.endpoints.push
    trusted = _trusted(paths, config)
    return {
        "host": recorded["host"],
        "port": main.port if main else None,
        "push_host": recorded["host"],
        "push_port": push.port if push else None,
        "username": USER,
        "password": password.strip(),
        "cert": read_file(trusted) if trusted else None,
        **({"proxy_port": config.proxy.port} if config.proxy else {}),
    }


def certificate_file(plan: Plan) -> Path | None:
    """Return the file of what clients are to trust; None where they verify by other things."""
    file = _trusted(plan.paths, plan.config)
    return file if file is not None and file.exists() else None


def read_supervisor(paths: InstancePaths) -> str | None:
    """Return the name of the supervisor, as it was written down at the last start."""
    name = _read_instance(paths).get("supervisor")
    return name if isinstance(name, str) else None


def _trusted(paths: InstancePaths, config: Config) -> Path | None:
    if config.tls is None:
        return None
    own = config.tls.certificate == paths.certificate
    return paths.authority if own else config.tls.certificate


def _needs_certificate(
    paths: InstancePaths,
    config: Config,
    names: HostNames,
    proxy_names: list[str],
    recorded: dict[str, Any],
) -> bool:
    """Tell whether our own certificates are missing, end, or are for other names.

    A user's are not ours. All are made at once, by an authority that is forgotten then.
    """
    if config.tls is None or config.tls.certificate != paths.certificate:
        return False
    files = [paths.authority, paths.certificate, paths.key]
    if proxy_names:
        files += [paths.proxy_certificate, paths.proxy_key]
    before = (recorded.get("certificate_names"), recorded.get("proxy_names", []))
    if not _all_there(files) or before != (names.all, proxy_names):
        return True
    return any(_is_no_use(path) for path in files if path.suffix == ".pem")


def _is_no_use(path: Path) -> bool:
    """Tell whether a certificate of a file has ended, is about to, or is not good yet.

    The last is one that was made while the clock was wrong; what is no certificate is no use, too.
    """
    from cryptography import x509

    now = datetime.now(timezone.utc)
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return True
    return any(
        one.not_valid_after_utc - now < _SOON or one.not_valid_before_utc > now
        for one in certificates
    )


def _proxy_names(paths: InstancePaths, config: Config, before: list[str]) -> list[str]:
    """Return the names for the proxy's own certificate, those of before where there are none."""
    if config.proxy is None or config.proxy.tls.certificate != paths.proxy_certificate:
        return before
    names = certificate_names(config.proxied) or before
    if not names:
        raise ConfigError(
            "the proxy for docker stands for upstreams other than docker.io, and there are none; "
            "name one, or leave the proxy out"
        )
    return names


def _all_there(paths: Iterable[Path]) -> bool:
    return all(path.exists() and path.stat().st_size for path in paths)


def _read_instance(paths: InstancePaths) -> dict[str, Any]:
    text = read_file(paths.instance)
    try:
        tree = {} if text is None else json.loads(text)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{paths.instance} is damaged; put it back, or remove it and run up with --host, "
            "which was in it"
        )
    return tree


def _load(text: str | None, path: Path) -> Tree:
    if text == "":  # as a power cut may leave it, and nobody is to lose what was changed by hand
        raise ConfigError(f"{path} is empty; put it back, or remove it to have a new one")
    tree = read_yaml(text, str(path)) if text else {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping; correct it, or remove it to have a new one")
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
