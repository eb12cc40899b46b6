# SPDX-License-Identifier: Apache-2.0
"""registries.conf of containers, read and matched as its library does, and written.

containers-registries.conf(5): of several files the last one that has a prefix has it as a whole,
and of one file the first entry for it. Of all prefixes that an image's name begins with, the
longest is the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ..errors import ClientError
from . import toml

_TABLE = re.compile(rb"""^\s*(\[{0,2}\s*["']?(?:registry|registries)\b)""", re.MULTILINE)
_SEARCH = re.compile(rb"""^\s*["']?unqualified-search-registries["']?\s*=""", re.MULTILINE)
_MIRROR = re.compile(rb"""^\s*(\[\s*registry\s*\.\s*mirror\s*\])""", re.MULTILINE)
#: A location that takes no port after it.
_FULL = re.compile(r"/|:\d+$")
_DIGESTS_ONLY = "mirror-by-digest-only"

#: What a key of an entry has.
Scalar = Union[str, int, float]


@dataclass(frozen=True)
class Entry:
    """The settings of a file for the images whose names begin with a prefix."""

    path: str
    prefix: str
    location: str = ""
    """Where they are; a wildcard may leave it out, and they are where they are named after."""

    settings: Mapping[str, Scalar] = field(default_factory=dict)
    mirrors: tuple[Mapping[str, Scalar], ...] = ()

    @property
    def addresses(self) -> list[str]:
        """The locations of its mirrors."""
        return [str(mirror["location"]) for mirror in self.mirrors]

    @property
    def digests_only(self) -> bool:
        """Whether its mirrors are asked for digests alone."""
        return bool(self.settings.get(_DIGESTS_ONLY))

    def at(self, name: str) -> Entry:
        """Return the entry for a longer prefix, with what the library makes of this one there.

        It takes a name for the beginning of one with a port, too, and puts the port after each
        location. Where that has a path or a port itself, it gets none of the images: an entry that
        had such a location would be in the way of ours."""
        rest = name[max(match(self.prefix, name), 0) :]
        location = _joined(self.location, rest) or name
        places = [_joined(str(one["location"]), rest) for one in self.mirrors]
        found = zip(self.mirrors, places)
        mirrors = tuple({**one, "location": place} for one, place in found if place)
        return Entry(self.path, name, location, self.settings, mirrors)

    def less(self, hosts: Iterable[str]) -> Entry:
        """Return the entry without mirrors at some hosts, and without what zuul-jobs' role adds.

        That is the location itself at the end, which comes after all mirrors in any case."""
        kept = list(self.mirrors)
        if kept and kept[-1] == {"location": self.location}:
            kept.pop()
        kept = [one for one in kept if str(one["location"]).partition("/")[0] not in hosts]
        return Entry(self.path, self.prefix, self.location, self.settings, tuple(kept))

    def after(self, address: str) -> Entry:
        """Return the entry with a mirror before all others, which is asked for tags as well.

        Mirrors for digests alone are so by a setting of their own then, which does for one mirror
        what ``mirror-by-digest-only`` does for all, and which the library refuses beside it."""
        settings = {name: one for name, one in self.settings.items() if name != _DIGESTS_ONLY}
        rule = {"pull-from-mirror": "digest-only"} if self.digests_only else {}
        ours: dict[str, Scalar] = {"location": address}
        mirrors = [ours, *({**one, **rule} for one in self.mirrors)]
        return Entry(self.path, self.prefix, self.location, settings, tuple(mirrors))


@dataclass(frozen=True)
class Document:
    """A file, less what is nobody's concern here."""

    entries: tuple[Entry, ...] = ()
    has_search: bool = False
    """Whether it says where to look for names without a registry."""


def read(content: bytes, path: str) -> Document:
    """Read a file of version 2, or of version 1."""
    has_search = bool(_SEARCH.search(content))
    # Most nodes need no reader of TOML for this: what they have are comments and short names.
    if not _TABLE.search(content):
        return Document((), has_search)
    found = toml.load(content, path)
    tables = found.get("registry", [])
    if not _are_tables(tables):
        raise _wrong(content, path, _TABLE, "registry", "[[registry]]")
    for table in tables:
        if not _are_tables(table.get("mirror", [])):
            raise _wrong(content, path, _MIRROR, "registry.mirror", "[[registry.mirror]]")
    old = _first_version(found.get("registries", {}), path)
    known: dict[str, Entry] = {}
    for entry in [*old, *(_entry(table, path) for table in tables)]:
        known.setdefault(entry.prefix, entry)
    return Document(tuple(known.values()), has_search)


def _are_tables(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, dict) for one in found)


def _wrong(
    content: bytes, path: str, header: re.Pattern[bytes], name: str, wanted: str
) -> ClientError:
    found = header.search(content) or _TABLE.search(content)
    line = content[: found.start(1) if found else 0].count(b"\n") + 1
    hint = f"write {wanted} there; nothing was changed"
    return ClientError(f"{path}, line {line}: {name} is no list of tables; {hint}")


def _first_version(found: Any, path: str) -> list[Entry]:
    """Return the entries of version 1, which are lists of insecure and of blocked registries."""
    known: dict[str, dict[str, Scalar]] = {}
    for table, setting in (("block", "blocked"), ("insecure", "insecure")):
        names = toml.get({"registries": found}, ["registries", table, "registries"]) or []
        if not isinstance(names, list):
            hint = "write a list there; nothing was changed"
            raise ClientError(f"{path}: registries of registries.{table} is no list; {hint}")
        for name in names:
            known.setdefault(str(name).rstrip("/"), {})[setting] = True
    return [Entry(path, name, name, settings) for name, settings in known.items()]


def _entry(table: Mapping[str, Any], path: str) -> Entry:
    values = _values(table, path)
    location = str(values.pop("location", "")).rstrip("/")
    prefix = str(values.pop("prefix", "")).rstrip("/") or location
    if not prefix or (not location and not prefix.startswith("*.")):
        hint = "give it one; nothing was changed"
        raise ClientError(f"{path}: a registry has no location, prefix {prefix or '-'}; {hint}")
    mirrors = [_values(one, path) for one in table.get("mirror", [])]
    if not all(one.get("location") for one in mirrors):
        hint = "give it one; nothing was changed"
        raise ClientError(f"{path}: a mirror of {prefix} has no location; {hint}")
    cleaned = [{**one, "location": str(one["location"]).rstrip("/")} for one in mirrors]
    return Entry(path, prefix, location, values, tuple(cleaned))


def _values(table: Mapping[str, Any], path: str) -> dict[str, Scalar]:
    values = {name: value for name, value in table.items() if name != "mirror"}
    for name, value in values.items():
        if not isinstance(value, (str, int, float)):
            hint = "mend the file, nothing was changed"
            raise ClientError(f"{path}: {name} of a registry is no text, number or truth; {hint}")
    return values


def match(prefix: str, name: str) -> int:
    """Tell how much of a name a prefix has matched; -1 where it is not one of the name."""
    if prefix.startswith("*."):
        start = name.find(prefix[1:])
        if start < 0 or "/" in name[:start]:
            return -1
        end = start + len(prefix) - 1
    else:
        end = len(prefix) if name.startswith(prefix) else -1
    return end if end == len(name) or (end >= 0 and name[end] in ":/@") else -1


def _joined(place: str, rest: str) -> str:
    """Return a location with the rest of a name; nothing where the rest has a port to no avail."""
    return "" if not place or (rest.startswith(":") and _FULL.search(place)) else place + rest


def in_effect(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the entries by prefix, of files in the order of reading."""
    return {entry.prefix: entry for entry in entries}


def best(table: Mapping[str, Entry], name: str) -> Entry | None:
    """Return the entry that counts for a name; of two as long, the library has the first."""
    found = [table[prefix] for prefix in sorted(table) if match(prefix, name) >= 0]
    return max(found, key=lambda entry: len(entry.prefix), default=None)


def within(prefix: str, name: str) -> str:
    """Return a prefix that is a registry's name or below it; nothing where it is elsewhere."""
    return prefix if prefix == name or prefix.startswith(f"{name}/") else ""


def write(entries: Iterable[Entry], search: tuple[str, ...]) -> str:
    """Write a file of version 2."""
    lines = ["# What stands in for these registries in this buildset."]
    if search:
        lines.append(f"unqualified-search-registries = {toml.dump(search)}")
    for one in entries:
        place = {"prefix": one.prefix, "location": one.location}
        lines += ["", "[[registry]]", *_lines({**place, **one.settings})]
        for mirror in one.mirrors:
            lines += ["[[registry.mirror]]", *_lines(mirror)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Scalar]) -> list[str]:
    return [f"{toml.key(name)} = {toml.dump(value)}" for name, value in values.items()]
