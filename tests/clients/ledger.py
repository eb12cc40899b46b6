# SPDX-License-Identifier: Apache-2.0
"""The table of clients and what each did, as the tests saw it."""

from __future__ import annotations

import textwrap

_WIDTH = 100


class Ledger:
    """Remembers what succeeded."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[str]]] = {}
        self._versions: dict[str, str] = {}

    def introduce(self, client: str, version: str) -> None:
        """Write down which version a client has."""
        self._versions[client] = version

    def note(self, client: str, deed: str, what: str = "") -> None:
        """Write down that a client did something, to some kind of thing."""
        things = self._rows.setdefault(client, {}).setdefault(deed, [])
        if what and what not in things:
            things.append(what)

    def table(self) -> str:
        """Return a paragraph for each client."""
        if not self._rows:
            return ""
        titles = {client: f"{client} {self._versions.get(client, '')}" for client in self._rows}
        left = max(map(len, titles.values())) + 2
        lines = [f"{'client':<{left}}what it did"]
        for client, deeds in sorted(self._rows.items()):
            told = "; ".join(
                f"{deed}: {', '.join(sorted(things))}" if things else deed
                for deed, things in sorted(deeds.items())
            )
            title = f"{titles[client]:<{left}}"
            lines += textwrap.wrap(told, _WIDTH, initial_indent=title, subsequent_indent=" " * left)
        return "\n".join(lines)
