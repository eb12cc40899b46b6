# SPDX-License-Identifier: Apache-2.0
"""A configuration that is read key by key, and knows which keys nobody read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from buildset_registry.errors import ConfigError

#: Seconds of the units of Go's durations (pkg.go.dev/time#ParseDuration).
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
#: Words in the name of a key whose value is no matter for a log: URLs may hold a login.
_HIDDEN = ("pass", "secret", "key", "headers", "users", "endpoints", "url")
_DURATION = re.compile(f"(?:{_PART.pattern})+")


class Tree:
    """A mapping of mappings; keys are dotted paths, and whatever is taken is marked."""

    def __init__(self, tree: Mapping[Any, Any], source: str) -> None:
        self._source = source
        self._leaves = dict(_leaves(tree, ()))
        self._taken: set[tuple[str, ...]] = set()

    def has(self, key: str) -> bool:
        """Tell whether something is said at or below a key."""
        path = tuple(key.split("."))
        return any(leaf[: len(path)] == path for leaf in self._leaves)

    def take(self, key: str) -> Any:
        """Return the value of a key, or None where it is not there."""
        path = tuple(key.split("."))
        self._taken.add(path)
        return self._leaves.get(path)

    def text(self, key: str) -> str | None:
        """Return a value as text; None where it is not there or empty."""
        value = self.take(key)
        if isinstance(value, (list, dict)):
            raise self.error(key, "a string", value)
        return None if value in (None, "") else str(value)

    def flag(self, key: str) -> bool:
        """Return a value that is true or false; false where it is not there."""
        value = self.take(key)
        if value in (None, ""):
            return False
        if str(value).lower() not in ("true", "false"):
            raise self.error(key, "true or false", value)
        return str(value).lower() == "true"

    def duration(self, key: str) -> int | None:
        """Return whole seconds of one of Go's durations, rounded up."""
        value = self.take(key)
        if value in (None, ""):
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return -(-value // 10**9)  # a number is nanoseconds there
        if not _DURATION.fullmatch(str(value)):
            raise self.error(key, "a duration such as 168h or 1m30s", value)
        parts = _PART.findall(str(value))
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if not math.isfinite(seconds):
            raise self.error(key, "a duration such as 168h or 1m30s", value)
        return -int(-seconds // 1)

    def section(self, key: str) -> dict[str, Any]:
        """Return everything below a key, as a mapping."""
        path = tuple(key.split("."))
        found: dict[str, Any] = {}
        for leaf, value in self._leaves.items():
            if leaf[: len(path)] == path and len(leaf) > len(path):
                self._taken.add(leaf)
                place = found
                for step in leaf[len(path) : -1]:
                    place = place.setdefault(step, {})
                if value is not None:
                    place[leaf[-1]] = value
        return found

    def list(self, key: str) -> list[Any]:
        """Return a list; an empty one where it is not there."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(key, "a list", value)
        return value

    def address(self, key: str, default: str) -> dict[str, Any]:
        """Return an endpoint from one of Go's listening addresses: ``:5000``, ``[::1]:5000``."""
        text = self.text(key) or default
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise self.error(key, "an address such as :5000 or 127.0.0.1:5000", text)
        return endpoint(host.removeprefix("[").removesuffix("]"), int(port))

    def left(self) -> Iterator[str]:
        """Yield the keys that nobody took."""
        for leaf, value in self._leaves.items():
            taken = any(leaf[: len(path)] == path for path in self._taken)
            if not taken and value not in (None, "", False, {}, []):
                yield ".".join(leaf)

    def error(self, key: str, expected: str, value: object) -> ConfigError:
        """Return an error about a value."""
        secret = any(word in key.lower() for word in _HIDDEN)
        shown = "(hidden)" if secret else repr(value)
        return ConfigError(f"{self._source}: {key} must be {expected}, not {shown}")


def _leaves(tree: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    for key, value in tree.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def endpoint(host: str, port: int) -> dict[str, Any]:
    """Return an endpoint; one that listens everywhere names no address."""
    anywhere = host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    return {"port": port} if anywhere else {"address": host, "port": port}
