# SPDX-License-Identifier: Apache-2.0
"""The options of ``up``, and the configuration that they make of the one that is there; pure.

An option that is not given leaves what the configuration says, so a second ``up`` changes nothing,
and what a user wrote into the file by hand stays.
"""

from __future__ import annotations

import copy
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from buildset_registry.config import DEFAULT_UPSTREAMS
from buildset_registry.errors import ConfigError
from buildset_registry.instance.sections import Sections

DEFAULT_ALIAS = "zuul-jobs.buildset-registry"
PORT = 5000
PUSH_PORT = 5001
FOREVER = "forever"
#: The folder of the lock, in the registry's.
LOCK_FOLDER = "lock"
#: Sections that are made, or completed.
_COMPLETED = ("auth", "endpoints", "lock", "log", "proxy", "pull_through", "tls")

Tree = dict[str, Any]
_LEDGER = {"folder": "ledger"}
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class Replay:
    """The options on the lock of images."""

    file: Path | None = None
    mode: str | None = None
    images: Path | None = None
    off: bool = False
    """Whether no lock is replayed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command line; None for one that was not given."""

    host: str | None = None
    port: int | None = None
    push_port: int | None = None
    single_port: bool | None = None
    proxy_port: int | None = None
    """0: no proxy."""

    alias: str | None = None
    upstreams: Sequence[Mapping[str, Any]] | None = None
    anonymous_pull: bool | None = None
    allowed_networks: Sequence[str] | None = None
    tag_seconds: int | str | None = None
    """For how many seconds a tag that was pulled through holds, or FOREVER."""

    lock: Replay = Replay()
    sections: Sections = field(default_factory=Sections)
    """Whole sections, which count more than what is in the file."""

    log_dir: Path | None = None
    supervisor: str = "auto"


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names by which other nodes know the registry."""

    host: str
    alias: str

    @property
    def all(self) -> list[str]:
        """Return every name that the certificate has to be good for."""
        return [*dict.fromkeys((self.host, self.alias, "localhost", "127.0.0.1", "::1"))]


def choose_names(options: Options, recorded: Mapping[str, Any]) -> HostNames:
    """Return the names of the options, or else those recorded before, or else the machine's."""
    host = options.host or recorded.get("host") or default_host()
    host = host.removeprefix("[").removesuffix("]")
    alias = options.alias or recorded.get("alias") or DEFAULT_ALIAS
    for option, name in (("--host", host), ("--alias", alias)):
        if not (_is_address(name) or _HOST_NAME.fullmatch(name)):
            raise ConfigError(f"{option} {name!r} is neither a host name nor an address")
    return HostNames(host, alias)


def configure(tree: Mapping[str, Any], options: Options) -> Tree:
    """Return the configuration as it is to be."""
    new = copy.deepcopy(dict(tree))
    options.sections.apply(new)
    _check_sections(new)
    new["endpoints"] = _endpoints(new.get("endpoints") or {}, options)
    new.setdefault("storage", "data")
    if not new.get("acme"):
        new.setdefault("tls", {"certificate": "server.pem", "key": "server.key"})
    new["auth"] = _auth(new.get("auth") or {}, options)
    _set_proxy(new, options)
    _set_tag_seconds(new, options.tag_seconds)
    _set_lock(new, options.lock)
    if options.upstreams is not None:
        new["upstreams"] = [dict(upstream) for upstream in options.upstreams]
    else:
        defaults = [{"name": name, "url": url} for name, url in DEFAULT_UPSTREAMS.items()]
        new.setdefault("upstreams", defaults)
    log = new["log"] = dict(new.get("log") or {})
    if options.log_dir is not None:
        log["file"] = str(options.log_dir / "registry.log")
    # Whoever has it in the foreground reads standard error.
    log.setdefault("file", None if options.supervisor == "foreground" else "log/registry.log")
    # A file has one writer; that of workers is in their object store.
    ledger = new.setdefault("ledger", dict(_LEDGER))
    if (new.get("workers") or 1) != 1 and ledger == _LEDGER:
        new["ledger"] = {}
    new.setdefault("overlay", {"folder": "overlay"})
    return new


def default_host() -> str:
    """Return the address of the default route, by asking the kernel; nothing is sent.

    The addresses are of the networks for documentation (RFC 5737, RFC 3849).
    """
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"


def _check_sections(tree: Tree) -> None:
    """Raise ``ConfigError`` for a section that is to be completed here, and cannot be."""
    ends = tree.get("endpoints")
    found = {name: tree.get(name) for name in _COMPLETED}
    if isinstance(ends, Mapping):
        found |= {f"endpoints.{name}": end for name, end in ends.items()}
    for name, section in found.items():
        if section is not None and not isinstance(section, Mapping):
            raise ConfigError(f"{name} of the configuration must be a mapping; correct it")


def _endpoints(recorded: Mapping[str, Any], options: Options) -> Tree:
    single = options.single_port
    if single is None:
        single = "single" in recorded
    main = dict(recorded.get("single") or recorded.get("pull") or {})
    main["port"] = options.port or main.get("port", PORT)
    if single:
        return {"single": main}
    push = dict(recorded.get("push") or {})
    push["port"] = options.push_port or push.get("port", PUSH_PORT)
    if push["port"] == main["port"]:
        raise ConfigError(
            f"port {main['port']} cannot serve two endpoints; give another --push-port, "
            "or --single-port for one endpoint that does both"
        )
    return {"pull": main, "push": push}


def _set_proxy(tree: Tree, options: Options) -> None:
    """Add the proxy for docker, or remove it."""
    if options.proxy_port == 0:
        tree.pop("proxy", None)
    if not options.proxy_port:
        return
    proxy = dict(tree.get("proxy") or {}, port=options.proxy_port)
    for end in tree["endpoints"].values():
        if end["port"] == options.proxy_port:
            raise ConfigError(
                f"port {options.proxy_port} already serves an endpoint; give another --proxy-port"
            )
    own = (tree.get("tls") or {}).get("certificate") == "server.pem"
    if own:
        proxy.setdefault("tls", {"certificate": "proxy.pem", "key": "proxy.key"})
    if "tls" not in proxy:
        raise ConfigError(
            "the registry has a certificate that up did not make, so up makes none for the proxy "
            "either; set proxy.tls in the configuration to one for the other registries' names"
        )
    tree["proxy"] = proxy


def _set_tag_seconds(tree: Tree, seconds: int | str | None) -> None:
    """Set how long tags hold; without the key they hold for ever."""
    if seconds is None:
        return
    pull_through = dict(tree.pop("pull_through", None) or {})
    pull_through.pop("tag_seconds", None)
    if seconds != FOREVER:
        pull_through["tag_seconds"] = seconds
    if pull_through:
        tree["pull_through"] = pull_through


def _set_lock(tree: Tree, replay: Replay) -> None:
    """Set the lock, which gets a copy in the registry's folder."""
    further = {"mode": replay.mode, "images": replay.images and str(replay.images)}
    given = {key: value for key, value in further.items() if value is not None}
    if replay.off and (replay.file or given):
        raise ConfigError("--no-lock goes with no other option on the lock; leave one of them out")
    if replay.off:
        tree.pop("lock", None)
    if replay.file is not None:
        given["file"] = f"{LOCK_FOLDER}/{replay.file.name}"
    lock = {**(tree.get("lock") or {}), **given}
    if given and "file" not in lock:
        raise ConfigError("--lock-mode and --images need a lock; name its file by --lock")
    if given:
        tree["lock"] = lock


def _auth(recorded: Mapping[str, Any], options: Options) -> Tree:
    auth = dict(recorded)
    auth.setdefault("htpasswd", "htpasswd")
    auth.setdefault("token_key", "token.key")
    if options.anonymous_pull is not None:
        auth["anonymous_pull"] = options.anonymous_pull
    auth.setdefault("anonymous_pull", True)
    if options.allowed_networks is not None:
        auth["allowed_networks"] = list(options.allowed_networks)
    return auth


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
