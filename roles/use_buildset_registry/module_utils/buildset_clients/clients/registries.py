# SPDX-License-Identifier: Apache-2.0
"""The files of registries.conf that a node's tools read, and the drop-ins that win there.

The library reads a user's registries.conf in place of the system's and then none of the system's
drop-ins; a user's drop-ins come after those of the system. This is so for root, too.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .. import files
from ..edits import Edit, own
from ..errors import ClientError
from ..formats import json, registries_conf
from ..formats.registries_conf import Document, Entry, best, in_effect, match, within
from ..node import Account, ManagedNode, acting_as
from ..registry import Namespace, RegistryFacts, Setup

_SYSTEM = "/etc/containers"
#: The end of our drop-ins' names.
_OURS = "buildset-registry.conf"
#: The beginnings: the first sorts after what distributions have there, the second after words.
_BEGINNINGS = ("999-", "zzz-")
#: Variables that name the file which podman and buildah read in place of the main one.
_VARIABLES = ("CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH")
_PORT = re.compile(r":\d+$")
#: The versions from which mirrors have ``pull-from-mirror``.
_SINCE = {"podman": (4, 2), "buildah": (1, 27), "skopeo": (1, 9), "crio": (1, 25)}


@dataclass(frozen=True)
class Files:
    """Some of the files, in the order of reading, with what they hold."""

    found: Mapping[Path, Document]

    @property
    def entries(self) -> list[Entry]:
        """Their entries."""
        return [entry for document in self.found.values() for entry in document.entries]

    @property
    def others(self) -> Files:
        """Those that are not ours."""
        return Files({path: one for path, one in self.found.items() if not is_ours(path)})

    def __add__(self, later: Files) -> Files:
        return Files({**self.found, **later.found})

    def in_the_way(self, setup: Setup) -> list[Path]:
        """Tell those that say anything of the names that are ours, or of short ones."""
        return [path for path, one in self.found.items() if _concerns(one, setup)]


def is_ours(path: Path) -> bool:
    """Tell whether a drop-in is one that this role has written."""
    return path.name.endswith(_OURS)


def _concerns(document: Document, setup: Setup) -> bool:
    if document.has_search and setup.unqualified:
        return True
    names = [one.name for one in setup.namespaces]
    pairs = [(one.prefix, name) for one in document.entries for name in names]
    return any(within(prefix, name) or match(prefix, name) >= 0 for prefix, name in pairs)


def home_of(account: Account) -> str:
    """Tell the folder of a user's own configuration."""
    return f"{account.home}/.config/containers"


def base(node: ManagedNode) -> str:
    """Tell the folder of the configuration, the system's or the user's."""
    return _SYSTEM if node.is_root else home_of(node.me)


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write a drop-in for the system, and for each user whose own files would hide it."""
    shared = _system(node, _named()).others
    made = [_drop_in(node, _SYSTEM, setup, shared)] if node.is_root else []
    for account in node.accounts:
        with acting_as(account):
            main, later = _main(node, account), _drop_ins(node, home_of(account)).others
        if node.is_root and not main.found and not later.in_the_way(setup):
            continue
        read = main + _main_of_variable(node, _named()) if main.found else shared
        user = account if node.is_root and account != node.me else None
        made.append(_drop_in(node, home_of(account), setup, read + later, user))
    return made


def seen(node: ManagedNode) -> Files:
    """Return what the tools of the user who does the work read, ours included."""
    main = _main(node, node.me)
    before = main + _main_of_variable(node, _named()) if main.found else _system(node, _named())
    return before + _drop_ins(node, home_of(node.me))


def _named() -> str:
    """Tell the file that the environment names."""
    return next(filter(None, map(os.environ.get, _VARIABLES)), "")


def _system(node: ManagedNode, named: str) -> Files:
    main = _read([node.real(f"{_SYSTEM}/registries.conf")])
    return (_main_of_variable(node, named) if named else main) + _drop_ins(node, _SYSTEM)


def _main(node: ManagedNode, account: Account) -> Files:
    path = f"{home_of(account)}/registries.conf"
    return _read([node.real(path)] if node.exists(path) else [])


def _main_of_variable(node: ManagedNode, named: str) -> Files:
    return _read([node.real(named)] if named else [])


def _drop_ins(node: ManagedNode, folder: str) -> Files:
    path = node.real(f"{folder}/registries.conf.d")
    if path.is_symlink():
        hint = f"make it a folder, or put what is in {os.path.realpath(path)} there"
        raise ClientError(f"{path} is a link, which the tools do not follow; {hint}")
    return _read(sorted(path.glob("*.conf")))


def _read(paths: Iterable[Path]) -> Files:
    found = {path: files.read(path) or b"" for path in paths}
    return Files({path: registries_conf.read(one, str(path)) for path, one in found.items()})


def _drop_in(
    node: ManagedNode, folder: str, setup: Setup, read: Files, user: Account | None = None
) -> Edit:
    inner = node.real(f"{folder}/registries.conf.d")
    rivals = [path.name for path in read.in_the_way(setup) if path.parent == inner]
    path = f"{folder}/registries.conf.d/{_name(rivals)}"
    text = registries_conf.write(entries(node, setup, read), setup.unqualified)
    return own("containers", path, text.encode(), action="reload", account=user)


def _name(rivals: list[str]) -> str:
    """Return a name that sorts after those of the files that would hide ours."""
    last = max(rivals, default="")
    names = [f"{beginning}{_OURS}" for beginning in (*_BEGINNINGS, f"{last[:-5]}~")]
    return next(name for name in names if name > last)


def entries(node: ManagedNode, setup: Setup, read: Files) -> list[Entry]:
    """Return our entries, with all that they would hide repeated in them."""
    table, made = in_effect(read.entries), []
    for namespace in setup.namespaces:
        below = filter(None, (within(prefix, namespace.name) for prefix in table))
        # A longer prefix that the node has set would pass by the shorter one's mirrors.
        for prefix in dict.fromkeys([namespace.name, *below]):
            known = best(table, prefix) or Entry("", prefix, prefix)
            if len(known.prefix) == len(prefix) and known.prefix != prefix:
                hint = f"add a [[registry]] with this as its location, or write it for {prefix}"
                raise ClientError(f"{known.path}: {known.prefix} is taken before {prefix}; {hint}")
            _check_age(node, known)
            rest = known.at(prefix).less(setup.registry.pulls)
            made.append(rest.after(mirror(setup.registry, namespace, prefix)))
    made += _of_ports(node, setup, {**table, **in_effect(made)})
    _check_places(made)
    return made


def _of_ports(node: ManagedNode, setup: Setup, table: Mapping[str, Entry]) -> list[Entry]:
    """Return entries for names with a port, which the library takes for those without as well.

    It would put the port after the path of our mirror, which is no name, and pull nothing. 443 is
    the registry itself; another port is another registry, which goes on as the node has it."""
    made, known = [], _names_with_ports(node)
    for name in [one.name for one in setup.namespaces if not _PORT.search(one.name)]:
        others = sorted(one for one in known if _PORT.sub("", one) == name and one not in table)
        theirs = table[name].less(setup.registry.pulls)
        made += [theirs.at(one) for one in others if one != f"{name}:443"]
        if f"{name}:443" not in table:
            made.append(replace(table[name], prefix=f"{name}:443"))
    return made


def _names_with_ports(node: ManagedNode) -> set[str]:
    """Tell the registries with a port that the node trusts or has logins for."""
    found: set[str] = set()
    for account in node.accounts:
        folders = [home_of(account), _SYSTEM, "/etc/docker"]
        logins = [f"{home_of(account)}/auth.json", f"{account.home}/.docker/config.json"]
        with acting_as(account), suppress(OSError):
            for folder in folders:
                found.update(path.name for path in node.real(f"{folder}/certs.d").glob("*:*"))
            for path in filter(node.exists, logins):
                found.update(json.part(json.load(files.read(node.real(path)), path), "auths", path))
    return set(filter(_PORT.search, found))


def mirror(registry: RegistryFacts, namespace: Namespace, prefix: str) -> str:
    """Return the place in the registry that stands for a prefix."""
    return f"{registry.pull}/{namespace.path}{prefix[len(namespace.name) :]}"


def _check_age(node: ManagedNode, entry: Entry) -> None:
    """Refuse what the programs of the node cannot say of one mirror alone."""
    if not entry.digests_only or not entry.mirrors:
        return
    for program, since in _SINCE.items():
        path = node.program(program)
        if path and _version(path, since) < since:
            what = f"mirror-by-digest-only of {entry.prefix} stands against a mirror for tags"
            hint = f"take it out, or have {program} >= {'.'.join(map(str, since))}"
            raise ClientError(f"{entry.path}: {what}; {hint}")


def _version(path: str, unknown: tuple[int, ...]) -> tuple[int, ...]:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\b(\d+)\.(\d+)", told.stdout)
    return tuple(map(int, found.groups())) if found else unknown


def _check_places(made: list[Entry]) -> None:
    """Refuse what the library does in one file: two rules for the same place."""
    known: dict[str, Entry] = {}
    for one in made:
        other = known.setdefault(one.location, one)
        for setting in ("insecure", "blocked"):
            if bool(one.settings.get(setting)) != bool(other.settings.get(setting)):
                where = one.path or other.path
                what = f"{setting} of {one.location} is set for one of {other.prefix}, {one.prefix}"
                raise ClientError(f"{where}: {what}; set it for both")
