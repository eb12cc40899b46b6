# SPDX-License-Identifier: Apache-2.0
"""TOML files that are somebody else's: text is put in, the rest stays, and the result is read back.

What the new text means is compared with what was wanted. A file whose form is beyond this is left
alone, with an error that says what to write by hand.
"""

from __future__ import annotations

import copy
import datetime
import importlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ClientError
from ..node import ManagedNode

_READERS = ("tomllib", "tomli", "pip._vendor.tomli", "setuptools._vendor.tomli")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[(?!\[)")
_ARRAY = re.compile(r"\s*\[\[")
#: What editors of other systems put before a text; readers written in Go pass over it.
_MARK = b"\xef\xbb\xbf"


def reader() -> Any:
    """Find a module that reads TOML: Python's from 3.11 on, or the one that pip brings."""
    for name in _READERS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    hint = "install python3-tomli or python3-pip there, or use a Python >= 3.11"
    raise ClientError(f"the node's Python has no module that reads TOML; {hint}")


def load(content: bytes | None, path: str) -> dict[str, Any]:
    """Read a file; one that is missing has no keys."""
    if content is None or not content.strip():
        return {}
    module = reader()
    try:
        return dict(module.loads(content.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = str(content[: error.start].count(b"\n") + 1)
        hint = "mend the file, nothing was changed"
        raise ClientError(f"{path}, line {line}: not UTF-8; {hint}") from error
    except module.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = found.group(1) if found else str(content.count(b"\n") + 1)
        reason = re.sub(r"\s*\(at .*\)$", "", str(error)).lower()
        what = f"{path}, line {line}: not TOML ({reason})"
        raise ClientError(f"{what}; mend the file, nothing was changed") from error


def split_mark(content: bytes) -> tuple[bytes, bytes]:
    """Part a byte order mark from the text."""
    size = len(_MARK) if content.startswith(_MARK) else 0
    return content[:size], content[size:]


def read(node: ManagedNode, path: str) -> dict[str, Any]:
    """Read a file of a node."""
    return load(files.read(node.real(path)), path)


def certificates(node: ManagedNode, path: str, table: Sequence[str]) -> list[Path]:
    """Return the files that ``ca`` of a table names, which is one name or a list of them."""
    named = get(read(node, path), table).get("ca", [])
    names = [named] if isinstance(named, str) else named
    return [node.real(str(Path(path).parent / name)) for name in names]


def dump(value: object) -> str:
    """Write a value; what JSON writes of strings, numbers and truth is TOML as well."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key(name)} = {dump(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(dump(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def header(table: Sequence[str]) -> str:
    """Write the header of a table."""
    return "[" + ".".join(key(name) for name in table) + "]"


def entries(values: dict[str, Any]) -> list[str]:
    """Write the keys of a table, but for the tables below it."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    return [f"{key(name)} = {dump(value)}" for name, value in plain.items()]


def table(names: Sequence[str], values: dict[str, Any]) -> list[str]:
    """Write a table and those below it."""
    lines = [header(names), *(f"  {line}" for line in entries(values))]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += table([*names, name], value)
    return lines


def key(name: str) -> str:
    """Write a key, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else dump(name)


def get(tree: dict[str, Any], table: Sequence[str]) -> Any:
    """Return the table, empty where there is none."""
    found: Any = tree
    for name in table:
        found = found.get(name) if isinstance(found, dict) else None
    return found if found is not None else {}


def put(content: bytes, table: Sequence[str], name: str, value: object, path: str) -> bytes:
    """Give a key of a table a value."""
    expected = copy.deepcopy(load(content, path))
    inner = expected
    for step in table:
        inner = inner.setdefault(step, {})
        if not isinstance(inner, dict):
            raise _beyond(path, table, name, value)
    if inner.get(name) == value:
        return content
    inner[name] = value
    mark, content = split_mark(content)
    text = _put(content.decode(), list(table), name, value)
    try:
        same = load(text.encode(), path) == expected
    except ClientError:
        same = False
    if not same:
        raise _beyond(path, table, name, value)
    return mark + text.encode()


def _put(text: str, table: list[str], name: str, value: object) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    entry = f"{key(name)} = {dump(value)}\n"
    start = _start(lines, table)
    if start is None:
        return "".join([*lines, "\n" if lines else "", header(table) + "\n", entry])
    end = next((i for i in range(start, len(lines)) if lines[i].lstrip()[:1] == "["), len(lines))
    for index in range(start, end):
        words = re.match(rf"(\s*)(?:{re.escape(name)}|{re.escape(dump(name))})\s*=", lines[index])
        if words:
            stop = _stop(lines, index)
            return "".join([*lines[:index], words.group(1) + entry, *lines[stop:]])
    return "".join([*lines[:start], entry, *lines[start:]])


def _start(lines: list[str], table: list[str]) -> int | None:
    """Find the line after a table's header; the top of the file is before every header."""
    if not table:
        return 0
    for index, line in enumerate(lines):
        if _HEADER.match(line) and _named(line) == table:
            return index + 1
    return None


def _named(line: str) -> list[str]:
    """Tell which table a header is of."""
    module = reader()
    names = []
    try:
        inner = module.loads(line)
    except module.TOMLDecodeError:
        return []
    while inner:
        ((name, inner),) = inner.items()
        names.append(name)
    return names


def _stop(lines: list[str], index: int) -> int:
    """Find the line after a value, which may have several lines."""
    module = reader()
    for stop in range(index + 1, len(lines) + 1):
        try:
            module.loads("".join(lines[index:stop]))
        except module.TOMLDecodeError:
            continue
        return stop
    return index + 1


def first_table(lines: Sequence[str], name: str) -> int:
    """Find the first header of a table below ``name``, or the end."""
    for index, line in enumerate(lines):
        if _HEADER.match(line) and not _ARRAY.match(line) and _named(line)[:1] == [name]:
            return index
    return len(lines)


def outside(lines: Sequence[str], table: Sequence[str]) -> list[str]:
    """Return the lines less those of a table and of the tables below it."""
    kept, inside = [], False
    for line in lines:
        if _ARRAY.match(line):
            inside = False
        elif _HEADER.match(line):
            inside = _named(line)[: len(table)] == list(table)
        if not inside:
            kept.append(line)
    return kept


def _beyond(path: str, table: Sequence[str], name: str, value: object) -> ClientError:
    entry = f"{header(table)} {key(name)} = {dump(value)}"
    return ClientError(f"{path}: its form cannot be edited; write {entry} there by hand")
