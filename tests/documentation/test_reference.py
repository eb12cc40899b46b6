# SPDX-License-Identifier: Apache-2.0
"""The reference leaves nothing out, and names nothing that is not there."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.cli import make_parser
from buildset_registry.config import Config
from buildset_registry.errors import RegistryError
from buildset_registry.http.routes import ROUTES, Route

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
#: Documented once for all listeners.
SHARED = {"endpoints.pull": "", "endpoints.push": "", "endpoints.single": ""}


def page(name: str) -> str:
    """Return the text of a page of the reference."""
    return (REFERENCE / f"{name}.rst").read_text()


def terms(text: str) -> set[str]:
    """Return what the tables of a page define: the literals of their first columns."""
    lines = [line for line in text.splitlines() if line.startswith("   * - ``")]
    return {term for line in lines for term in re.findall("``(.+?)``", line)}


def section_of(hint: Any) -> tuple[type | None, str]:
    """Return the dataclass inside an annotation, and how the page writes a list of it."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint, ""
    origin = typing.get_origin(hint)
    if origin is tuple:
        found, _ = section_of(typing.get_args(hint)[0])
        return found, "[]"
    if origin in (types.UnionType, typing.Union):
        inner = (section_of(one) for one in typing.get_args(hint))
        return next((one for one in inner if one[0] is not None), (None, ""))
    return None, ""


def settings(section: type, where: str = "") -> Iterator[str]:
    """Yield the keys of the configuration file as the page writes them."""
    hints = typing.get_type_hints(section)
    for item in dataclasses.fields(section):
        key = f"{where}{item.name}"
        yield key
        inner, suffix = section_of(hints[item.name])
        if inner is not None:
            prefix = SHARED.get(key, f"{key}{suffix}.")
            yield from settings(inner, prefix)


SETTINGS = sorted(set(settings(Config)))


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_documented(key: str) -> None:
    """In the first column of a table of the page on the configuration."""
    assert key in terms(page("configuration"))


def test_no_setting_is_documented_that_is_not_there() -> None:
    """A page that names what was removed sends its reader astray."""
    assert terms(page("configuration")) - set(SETTINGS) == set()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: str(route.id))
def test_every_route_is_documented(route: Route) -> None:
    """Method, path and identifier stand in one row of the page on the API."""
    assert f"   * - ``{route.method} {route.path}``\n     - {route.id}\n" in page("api")


def errors(base: type[RegistryError]) -> Iterator[type[RegistryError]]:
    """Yield every kind of refusal."""
    yield base
    for kind in base.__subclasses__():
        yield from errors(kind)


@pytest.mark.parametrize("error", sorted(set(errors(RegistryError)), key=str))
def test_every_error_is_documented(error: type[RegistryError]) -> None:
    """Its code and its status stand in one row."""
    row = page("api").partition(f"   * - ``{error.code}``\n")[2].partition("   * - ")[0]
    assert str(error.status) in row.splitlines()[0]


def test_no_route_and_no_error_is_documented_that_is_not_there() -> None:
    """The page on the API names what there is."""
    known = {f"{route.method} {route.path}" for route in ROUTES}
    known |= {error.code for error in errors(RegistryError)}
    known |= {"If-None-Match", "If-Match", "If-Range"}
    assert terms(page("api")) - known == set()


def commands() -> dict[str, set[str]]:
    """Return the commands with their options as argparse has them."""
    (choices,) = [action.choices for action in make_parser()._actions if action.choices]
    return {
        name: {option for action in parser._actions for option in action.option_strings}
        - {"-h", "--help"}
        for name, parser in dict(choices).items()
    }


def sections(text: str) -> dict[str, str]:
    """Return the sections of a page by title."""
    parts = re.split(r"^(\S.*)\n-+\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", commands())
def test_every_command_is_documented_with_its_options(name: str) -> None:
    """A section for each, a row for each option, and none that is not there."""
    documented = terms(sections(page("command-line"))[name])
    assert {term.partition(" ")[0] for term in documented} == commands()[name]


def test_no_command_is_documented_that_is_not_there() -> None:
    """Each section of the page is a command."""
    assert set(sections(page("command-line"))) == set(commands())
