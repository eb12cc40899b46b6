# SPDX-License-Identifier: Apache-2.0
"""The roles' READMEs tell every variable as the argument specifications do, on every forge."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import docutils.core
import pytest
import yaml
from docutils import nodes

from tools import role_readmes

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir())
NAMES = [role.name for role in ROLES]
#: What reStructuredText has by itself, and so every forge.
ALONE = {"halt_level": 2, "report_level": 2, "warning_stream": io.StringIO()}


def render(role: Path) -> nodes.document:
    """Read a README by docutils alone, which fails where something is not its own."""
    text = (role / "README.rst").read_text()
    document: nodes.document = docutils.core.publish_doctree(text, settings_overrides=ALONE)
    return document


def rows(document: nodes.document, columns: int) -> list[list[str]]:
    """Return the rows of the tables that have so many columns, without their heads."""
    found = list(document.findall(nodes.tbody))
    cells = [[cell.astext() for cell in row.children] for body in found for row in body.children]
    return [row for row in cells if len(row) == columns]


def options(role: Path) -> dict[str, Any]:
    """Return what the argument specification has, suboptions by their whole names."""
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    return dict(flatten(specification["argument_specs"]["main"]["options"]))


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return options and their suboptions."""
    found = []
    for name, option in tree.items():
        inner = f"{prefix}{name}{'[]' if option['type'] == 'list' else ''}."
        found += [(f"{prefix}{name}", option), *flatten(option.get("options", {}), inner)]
    return found


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_readme_is_what_the_specification_makes(role: Path) -> None:
    """Whoever changes a specification runs tools/role_readmes.py."""
    assert (role / "README.rst").read_text() == role_readmes.renew(role)


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_readme_shows_every_variable_on_a_forge(role: Path) -> None:
    """Each row, as docutils renders it, has a name, a type, a default and a meaning."""
    table = {row[0]: row[1:] for row in rows(render(role), 4)}
    wanted = options(role)
    assert list(table) == list(wanted)
    for name, (kind, default, meaning) in table.items():
        assert kind.split(" of ")[0] == wanted[name]["type"]
        assert default
        assert len(meaning) > 20
        for choice in wanted[name].get("choices", []):
            assert choice in meaning


@pytest.mark.parametrize("role", ROLES, ids=NAMES)
def test_readme_leads_to_what_is_there(role: Path) -> None:
    """References to other files of the repository end at a file."""
    for reference in render(role).findall(nodes.reference):
        target = reference.get("refuri", "")
        assert target.startswith("https://") or (role / target).is_file(), target


def test_readme_tells_the_facts() -> None:
    """Each key of the page on the facts has a row in the README of the role that sets them."""
    page = (REPOSITORY / "docs" / "reference" / "facts.rst").read_text()
    keys = {key for line in re.findall(r"^   \* - (``.*)$", page, re.M) for key in line.split(", ")}
    told = {f"``{row[0]}``" for row in rows(render(role_named("run_buildset_registry")), 3)}
    assert told == keys


def role_named(name: str) -> Path:
    """Return the folder of a role."""
    return REPOSITORY / "roles" / name


def specified(**option: Any) -> dict[str, Any]:
    """Make the options of a role with one variable."""
    return {"example": {"type": "str", "description": ["What it is."], **option}}


@pytest.mark.parametrize(
    ("option", "default", "shown"),
    [
        ({"default": 5000}, 5000, "``5000``"),
        ({"default": True}, True, "``true``"),
        ({"default": []}, [], "``[]``"),
        ({"required": True}, None, "required"),
        ({}, None, "none"),
        ({}, [["a", "https://a"], ["b", "https://b"]], "``a``, ``b``"),
        (
            {"description": ["Defaults to C(/x) as root."], "default": ""},
            "{{ x }}",
            "``/x`` as root",
        ),
    ],
)
def test_default_is_shown_as_it_is_or_in_words(option: Any, default: Any, shown: str) -> None:
    """A value that says something stands there; another one is told by its description."""
    defaults = {} if default is None else {"example": default}
    (row,) = role_readmes.variables(specified(**option), defaults)
    assert row.default == shown


@pytest.mark.parametrize("default", ["", "{{ something }}"])
def test_default_that_says_nothing_is_refused(default: str) -> None:
    """Nobody learns anything from an empty cell."""
    with pytest.raises(role_readmes.SpecificationError, match="say in its description"):
        list(role_readmes.variables(specified(), {"example": default}))
