# SPDX-License-Identifier: Apache-2.0
"""The reader of configuration files: an unknown key is an error, and so is a wrong type."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from buildset_registry.config.model import (
    Config,
    GcSettings,
    Network,
    TokenServerSettings,
    UpstreamSettings,
)
from buildset_registry.config.retention import Duration, check_retention
from buildset_registry.config.storage import StorageSettings
from buildset_registry.errors import ConfigError, NameInvalid, TagInvalid
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.patterns import RepositoryPattern, TagPattern
from buildset_registry.yaml_text import read_yaml

#: The largest number: what the kernel takes for a size in bytes.
_MOST = 2**63 - 1
#: More than that is a mistake in typing.
_MOST_WORKERS = 256
#: Seconds within which a client that was told of a blob surely has pushed its manifest.
_LEAST_GRACE = 60
#: What has a grammar of its own, and says what is wrong.
_Name = RegistryHost | RepositoryPattern | TagPattern
_NAMES = typing.get_args(_Name)
#: A host name or an address that an authority could certify.
_CERTIFIED = re.compile(r"(?!-)[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}")
#: Beginnings of the canned ACLs of S3 by which others than the bucket's owner may read.
_OPEN_ACLS = ("public-", "authenticated-")
#: Words in the name of a setting whose value is no matter for a log.
_HIDDEN = ("password", "headers", "secret", "accesskey", "accountkey", "sessiontoken", "hmac")


def load(path: Path) -> Config:
    """Read a YAML file; ``ConfigError`` says what is wrong, where, and what to do."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "name the file with --config"
        if isinstance(error, PermissionError):
            hint = "run this as the user whose it is"
        raise ConfigError(f"cannot read {path}: {error.strerror}; {hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start} is no text") from None
    return parse(read_yaml(text, str(path)), str(path), path.parent)


def parse(tree: object, source: str, folder: Path) -> Config:
    """Check a tree of plain values and resolve its paths against ``folder``."""
    config = typing.cast("Config", _Reader(source, folder).section(tree, Config, ""))
    endpoints = config.endpoints
    two = endpoints.pull is not None or endpoints.push is not None
    if two == (endpoints.single is not None):
        raise ConfigError(
            f"{source}: endpoints needs either single, or pull and push, or one of these two"
        )
    _check_storage(config.storage, source)
    _check_ledger(config, source)
    _check_upstreams(config.upstreams, source)
    _check_token_server(config.auth.token, source)
    for webhook in config.notifications:
        if not is_http_url(webhook.url):
            raise ConfigError(
                f"{source}: notifications: {webhook.name}: {_shown(webhook.url)} is not an "
                "https:// or http:// URL"
            )
    _check_gc(config.gc, source)
    check_retention(config.retention, source)
    if config.limits.connections < 1:
        raise ConfigError(f"{source}: limits.connections must be at least 1")
    _check_proxy(config, source)
    _check_workers(config, source)
    _check_acme(config, source)
    return config


def is_http_url(text: str) -> bool:
    """Tell whether a text is an http:// or https:// URL with a host, and a port that is one."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Return what was meant to be a URL as a message names it: without a login."""
    return repr(re.sub(r"[^/]*@", "(hidden)@", url))


def _check_storage(storage: object, source: str) -> None:
    if not isinstance(storage, StorageSettings):
        return
    if len(storage.services) != 1:
        named = " and ".join(storage.services) or "none"
        raise ConfigError(f"{source}: storage needs one service, and names {named}")
    redirect, where = storage.redirect, f"{source}: storage.redirect"
    if redirect.base_url is not None and not is_http_url(redirect.base_url):
        raise ConfigError(
            f"{where}.base_url {_shown(redirect.base_url)} is not an https:// or http:// URL"
        )
    if redirect.cloudfront is None:
        return
    if redirect.base_url is not None:
        raise ConfigError(f"{where} sends clients to base_url or to cloudfront, not to both")
    if storage.s3 is None:
        raise ConfigError(f"{where}.cloudfront needs a bucket of S3; set storage.s3")
    base = redirect.cloudfront.baseurl
    if not is_http_url(base if "://" in base else f"https://{base}"):
        raise ConfigError(f"{where}.cloudfront.baseurl {_shown(base)} is no URL; correct it")


def _check_ledger(config: Config, source: str) -> None:
    kept = config.ledger is None or config.ledger.folder is not None
    if not kept and not isinstance(config.storage, StorageSettings):
        raise ConfigError(
            f"{source}: ledger.folder is missing; set it: only an object store keeps a ledger"
        )


def _check_proxy(config: Config, source: str) -> None:
    if config.proxy is None:
        return
    if config.auth.htpasswd is None:
        raise ConfigError(f"{source}: proxy needs users with passwords; set auth.htpasswd")
    if not all(0 < port < 65536 for port in config.proxy.ports):
        raise ConfigError(f"{source}: proxy.ports must be ports from 1 to 65535")
    _check_distinct(config.proxy.registries or (), source, "proxy.registries")


def _check_acme(config: Config, source: str) -> None:
    acme = config.acme
    if acme is None:
        return
    if config.tls is not None:
        raise ConfigError(f"{source}: tls and acme both name a certificate; keep one of them")
    if not acme.names:
        raise ConfigError(
            f"{source}: acme.names is empty; name the hosts that the certificate is for"
        )
    for name in acme.names:
        if not _CERTIFIED.fullmatch(name):
            raise ConfigError(
                f"{source}: acme.names: {name!a} is neither a host name nor an address; a wildcard "
                "cannot be proved by HTTP-01"
            )
    if not is_http_url(acme.directory):
        raise ConfigError(
            f"{source}: acme.directory: {_shown(acme.directory)} is not an https:// URL"
        )
    shown_by = _shows_everybody(config.storage)
    if shown_by is not None and acme.folder is None:
        raise ConfigError(
            f"{source}: acme keeps private keys beside the images, and storage.{shown_by} may show "
            "them to everybody; set acme.folder"
        )


def _shows_everybody(storage: object) -> str | None:
    """Return the setting by which whoever knows the name of an object may have it, if one is so."""
    if not isinstance(storage, StorageSettings):
        return None
    if storage.redirect.base_url is not None:
        return "redirect.base_url"
    acl = storage.s3.objectacl if storage.s3 is not None else None
    return "s3.objectacl" if acl and acl.startswith(_OPEN_ACLS) else None


def _check_workers(config: Config, source: str) -> None:
    if not 1 <= config.workers <= _MOST_WORKERS:
        raise ConfigError(f"{source}: workers must be from 1 to {_MOST_WORKERS}")


def _check_gc(gc: GcSettings, source: str) -> None:
    if gc.grace < _LEAST_GRACE:
        raise ConfigError(
            f"{source}: gc.grace must be at least {_LEAST_GRACE}, not {gc.grace}: a push takes time"
        )


def _check_token_server(server: TokenServerSettings | None, source: str) -> None:
    if server is not None and server.rootcertbundle is None and server.jwks is None:
        raise ConfigError(
            f"{source}: auth.token has no key to verify tokens with; set rootcertbundle or jwks"
        )


def _check_upstreams(upstreams: tuple[UpstreamSettings, ...], source: str) -> None:
    _check_distinct([upstream.name for upstream in upstreams], source, "upstreams")
    for upstream in upstreams:
        for url in filter(None, (upstream.url, upstream.mirror)):
            if not is_http_url(url):
                raise ConfigError(
                    f"{source}: upstream {upstream.name}: {_shown(url)} is not an https:// or "
                    "http:// URL"
                )
        if (upstream.username is None) != (upstream.password is None):
            raise ConfigError(
                f"{source}: upstream {upstream.name}: give username and password, or neither"
            )


def _check_distinct(names: Sequence[RegistryHost], source: str, where: str) -> None:
    """Refuse two entries of one registry, by whichever of its names."""
    seen: dict[RegistryHost, int] = {}
    for number, name in enumerate(names):
        first = seen.setdefault(name, number)
        if first != number:
            raise ConfigError(
                f"{source}: upstream {name} is listed twice ({where}[{first}] and "
                f"{where}[{number}] name it); keep one of them"
            )


class _Reader:
    """Turns plain YAML values into the dataclasses of the model, by their annotations."""

    def __init__(self, source: str, folder: Path) -> None:
        self._source = source
        self._folder = folder

    def section(self, tree: object, cls: type, where: str) -> object:
        """Read one mapping into the dataclass ``cls``."""
        if not isinstance(tree, dict):
            raise self._error(where or "the file", "a mapping", tree)
        fields = {item.name: item for item in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        for key in tree:
            if key not in fields:
                known = ", ".join(fields)
                raise ConfigError(
                    f"{self._source}: unknown key {_join(where, key)}; known here: {known}"
                )
        values = {
            key: self._value(value, hints[key], _join(where, key))
            for key, value in tree.items()
            if value is not None or _is_optional(hints[key])
        }
        for name, item in fields.items():
            required = item.default is item.default_factory is dataclasses.MISSING
            if required and name not in values:
                raise ConfigError(f"{self._source}: {_join(where, name)} is missing; set it")
        return cls(**values)

    def _value(self, value: object, hint: object, where: str) -> object:
        if hint == Network:
            return self._network(value, where)
        if hint is Duration:
            return self._duration(value, where)
        if hint in _NAMES:
            return self._name(value, typing.cast("type[_Name]", hint), where)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.section(value, hint, where)
        readers = {
            tuple: self._list,
            dict: self._words,
            typing.Literal: self._choice,
            types.UnionType: self._either,
            typing.Union: self._either,
        }
        reader = readers.get(typing.get_origin(hint))
        if reader is not None:
            return reader(value, typing.get_args(hint), where)
        return self._scalar(value, hint, where)

    def _list(self, value: object, kinds: tuple[object, ...], where: str) -> object:
        if not isinstance(value, list):
            raise self._error(where, "a list", value)
        return tuple(self._value(one, kinds[0], f"{where}[{i}]") for i, one in enumerate(value))

    def _either(self, value: object, kinds: tuple[object, ...], where: str) -> object:
        """Read a value of the first kind, or one of the words that the others allow, or nothing."""
        words = [word for other in kinds[1:] for word in typing.get_args(other)]
        if value is None or (isinstance(value, str | bool) and value in words):
            return value
        if isinstance(value, dict):
            kinds = tuple(filter(dataclasses.is_dataclass, kinds)) or kinds
        return self._value(value, kinds[0], where)

    def _scalar(self, value: object, hint: object, where: str) -> object:
        if hint is Path:
            if not isinstance(value, str):
                raise self._error(where, "a path", value)
            return self._path(value, where)
        names = {bool: "true or false", int: "a number", str: "a string"}
        kind = typing.cast("type", hint)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._error(where, names[kind], value)
        if where.endswith(".port") and not 0 < typing.cast("int", value) < 65536:
            raise self._error(where, "a port from 1 to 65535", value)
        if kind is int and typing.cast("int", value) < 0:
            unit = " of seconds" if where.endswith("_seconds") else ""
            raise self._error(where, f"a number{unit}, 0 or more", value)
        if kind is int and typing.cast("int", value) > _MOST:
            raise self._error(where, f"a number up to {_MOST}", value)
        if kind is str:
            self._check_text(typing.cast("str", value), where)
        return value

    def _path(self, text: str, where: str) -> Path:
        self._check_text(text, where)
        try:
            return self._folder / Path(text).expanduser()
        except RuntimeError:  # there is no such user
            raise self._error(where, "a path to a home that is there", text) from None

    def _check_text(self, text: str, where: str) -> None:
        """Refuse what no file, host or header can be named by."""
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self._error(where, "text without NUL and half characters", text)

    def _words(self, value: object, kinds: tuple[object, ...], where: str) -> object:
        """Read a mapping of strings; its values may be secrets."""
        if not isinstance(value, dict):
            raise self._error(where, "a mapping", value)
        for name, content in value.items():
            if not isinstance(name, str) or not isinstance(content, str):
                raise self._error(f"{where}.{name}", "a string", content)
            self._check_text(name + content, f"{where}.{name!a}")
        return dict(value)

    def _choice(self, value: object, choices: tuple[object, ...], where: str) -> object:
        if value is False and "off" in choices:  # YAML 1.1 reads the word so
            return "off"
        if value not in choices:
            raise self._error(where, f"one of {', '.join(map(str, choices))}", value)
        return value

    def _network(self, value: object, where: str) -> Network:
        try:
            return ip_network(str(value), strict=False)
        except ValueError:
            raise self._error(
                where, "a network such as 10.0.0.0/8 or 2001:db8::/32", value
            ) from None

    def _duration(self, value: object, where: str) -> Duration:
        try:
            return Duration.parse(value)
        except ValueError as error:
            raise self._error(where, str(error), value) from None

    def _name(self, value: object, kind: type[_Name], where: str) -> _Name:
        if not isinstance(value, str):
            raise self._error(where, "a string", value)
        try:
            return kind.parse(value)
        except (NameInvalid, TagInvalid) as error:
            raise ConfigError(f"{self._source}: {where}: {error.message}") from None

    def _error(self, where: str, expected: str, value: object) -> ConfigError:
        shown = "(hidden)" if any(word in where for word in _HIDDEN) else repr(value)
        return ConfigError(f"{self._source}: {where} must be {expected}, not {shown}")


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _is_optional(hint: object) -> bool:
    return type(None) in typing.get_args(hint)
