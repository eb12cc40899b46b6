# SPDX-License-Identifier: Apache-2.0
"""Write the tables of variables in the roles' READMEs, as forges render them.

Names, types and meanings come from ``meta/argument_specs.yml``; so do defaults, or, where it has
none, from ``defaults/main.yml``. A default that is computed is told in words by a paragraph of the
description that begins with "Defaults to". A test runs ``--check``.

usage: python tools/role_readmes.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN = ".. Made by tools/role_readmes.py from meta/argument_specs.yml: change that, then run it.\n"
END = ".. The end of what is made.\n"
WIDTH = 110
IN_WORDS = "Defaults to "
#: Ansible's markup, and what reStructuredText makes of it on every forge.
MARKUP = (
    (re.compile(r"[COV]\((.+?)\)"), r"``\1``"),
    (re.compile(r"P\(buildset\.registry\.(\w+)#role\)"), r"`\1 <../\1/README.rst>`__"),
)


class SpecificationError(Exception):
    """What a specification lacks, in one line."""


@dataclass(frozen=True)
class Variable:
    """A row of the table."""

    name: str
    type: str
    default: str
    meaning: str

    def lines(self) -> Iterator[str]:
        """Yield the row as a list-table has it."""
        for mark, cell in zip(("* -", "  -", "  -", "  -"), self.cells(), strict=True):
            yield from textwrap.wrap(
                cell,
                WIDTH,
                initial_indent=f"   {mark} ",
                subsequent_indent="       ",
                break_long_words=False,
                break_on_hyphens=False,
            )

    def cells(self) -> tuple[str, str, str, str]:
        """Return what stands in the columns."""
        return f"``{self.name}``", self.type, self.default, self.meaning


def markup(text: str) -> str:
    """Turn Ansible's markup into plain reStructuredText."""
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text


def literal(value: Any) -> str:
    """Write a value as it stands in a playbook."""
    return f"``{value if isinstance(value, str) else json.dumps(value)}``"


def is_told(value: Any) -> bool:
    """Tell whether a value says something by itself: not if it is empty text or computed."""
    return value is not None and value != "" and "{{" not in str(value)


def show_default(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return what the column of defaults says."""
    if option.get("required"):
        return "required"
    words = [text for text in paragraphs(option) if text.startswith(IN_WORDS)]
    if words:
        return markup(words[0].removeprefix(IN_WORDS).removesuffix("."))
    value = option.get("default", defaults.get(name))
    if is_told(value):
        if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
            return ", ".join(literal(item[0]) for item in value)
        return literal(value)
    if name in defaults:
        raise SpecificationError(f"{name}: say in its description what it defaults to")
    return "none"


def paragraphs(option: dict[str, Any]) -> list[str]:
    """Return the description as a list, whichever way it is written."""
    description = option["description"]
    return [description] if isinstance(description, str) else list(description)


def show_meaning(option: dict[str, Any]) -> str:
    """Return the description as one paragraph, with the choices there are."""
    texts = [text for text in paragraphs(option) if not text.startswith(IN_WORDS)]
    if "choices" in option:
        texts.append(f"One of {', '.join(literal(choice) for choice in option['choices'])}.")
    return markup(" ".join(texts))


def variables(
    options: dict[str, Any], defaults: dict[str, Any], prefix: str = ""
) -> Iterator[Variable]:
    """Yield a row for each option, and for each of its suboptions."""
    for name, option in options.items():
        kind = option["type"]
        if "elements" in option:
            kind += f" of {option['elements']}"
        default = show_default(name, option, {} if prefix else defaults)
        yield Variable(f"{prefix}{name}", kind, default, show_meaning(option))
        inner = f"{prefix}{name}{'[]' if option['type'] == 'list' else ''}."
        yield from variables(option.get("options", {}), defaults, inner)


def table(role: Path) -> str:
    """Return the table of a role's variables."""
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    path = role / "defaults" / "main.yml"
    defaults = yaml.safe_load(path.read_text()) if path.exists() else {}
    head = Variable("", "type", "default", "meaning")
    rows = variables(specification["argument_specs"]["main"]["options"], defaults)
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 9 21 36", ""]
    lines += ["   * - name", *list(head.lines())[1:]]
    lines += [line for row in rows for line in row.lines()]
    return "\n".join(lines) + "\n"


def renew(role: Path) -> str:
    """Return the README with its table made anew; one without variables has no table."""
    text = (role / "README.rst").read_text()
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        return text
    return f"{before}{BEGIN}\n{table(role)}\n{END}{after}"


def main(words: list[str]) -> int:
    """Write the READMEs, or tell which ones are not what would be written."""
    stale = [role for role in sorted(ROLES.iterdir()) if renew(role) != read(role)]
    if words == ["--check"]:
        for role in stale:
            print(f"roles/{role.name}/README.rst: run python tools/role_readmes.py")
        return 1 if stale else 0
    for role in stale:
        (role / "README.rst").write_text(renew(role))
    return 0


def read(role: Path) -> str:
    """Return the README as it is."""
    return (role / "README.rst").read_text()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
