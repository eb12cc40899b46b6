# SPDX-License-Identifier: Apache-2.0
"""JSON files that are somebody else's: read with errors that name the line, written as found."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import ClientError

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]')
_INDENT = re.compile(r"\A\s*\{\s*?\n([ \t]+)\S")


def load(content: bytes | None, path: str) -> dict[str, Any]:
    """Read an object; a file that is missing or empty is one without keys."""
    text = _decode(content or b"", path)
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"{path}, line {error.lineno}: not JSON ({error.msg.lower()})"
        raise ClientError(f"{what}; mend the file, nothing was changed") from error
    if not isinstance(found, dict):
        raise ClientError(f"{path}, line 1: not a JSON object; mend the file, nothing was changed")
    return Located(found, _lines(text))


class Located(dict):  # type: ignore[type-arg]  # Python 3.8 takes no parameters here
    """An object that knows the line of each of its keys."""

    def __init__(self, value: dict[str, Any], lines: dict[str, int]) -> None:
        super().__init__(value)
        self.lines = lines


def _lines(text: str) -> dict[str, int]:
    """Find the lines of the keys of the outermost object, in what is known to be JSON."""
    lines, depth = {}, 0
    for token in _TOKEN.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token.group(), 0)
        if depth == 1 and token.group(2) is not None:
            lines[json.loads(f'"{token.group(1)}"')] = text.count("\n", 0, token.start()) + 1
    return lines


def dump(value: dict[str, Any], like: bytes | None, indent: str = "  ") -> bytes:
    """Write an object in the style of what was there."""
    before = (like or b"").decode("utf-8", "replace")
    match = _INDENT.match(before)
    style = match.group(1) if match else indent
    # Ansible's to_nice_json sorts: a role that writes by it would find another order changed.
    is_sorted = bool(before.strip()) and _in_order(json.loads(before.lstrip("\ufeff")))
    text = json.dumps(value, indent=style, ensure_ascii=False, sort_keys=is_sorted)
    return (text + ("" if before and not before.endswith("\n") else "\n")).encode()


def _in_order(value: dict[str, Any]) -> bool:
    return json.dumps(value) == json.dumps(value, sort_keys=True)


def part(value: dict[str, Any], key: str, path: str, kind: type = dict) -> Any:
    """Return what a key has, which has to be of a kind; something empty where it has nothing."""
    found = value.get(key)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise wrong(key, path, "an object" if kind is dict else "a list", value)
    return found


def wrong(key: str, path: str, wanted: str, value: dict[str, Any] | None = None) -> ClientError:
    """Tell that a key of an object has something of another kind."""
    line = getattr(value, "lines", {}).get(key)
    where = f"{path}, line {line}" if line else path
    return ClientError(f"{where}: {key} is not {wanted}; mend the file, nothing was changed")


def _decode(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ClientError(f"{path}, line {line}: not UTF-8; mend the file") from error
