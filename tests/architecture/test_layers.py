# SPDX-License-Identifier: Apache-2.0
"""The page on the architecture shows the layers of the import contract, all and no others."""

from __future__ import annotations

import re

import tomllib  # type: ignore[import-not-found, unused-ignore]  # the tiers run on 3.11

from tests.architecture.sources import TOP

PAGE = TOP / "docs" / "explanation" / "architecture.rst"
#: The heading of the part that has the list, and the list: the first block of text after it.
LIST = re.compile(r"^The layers\n-+\n.*?^\.\. code-block:: text\n\n(.*?)\n\n(?=\S)", re.M | re.S)


def contract() -> list[str]:
    """Return the modules of the contract, from the top: ``a | b`` are beside each other."""
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [one["layers"] for one in settings["contracts"] if one["name"] == "layers"]
    return [name.strip() for layer in layers for name in re.split("[|:]", layer)]


def shown() -> list[str]:
    """Return the modules on the page: each line has some, two spaces apart, and a description."""
    found = LIST.search(PAGE.read_text())
    assert found, "there is no list of layers"
    lines = [re.split(r"\s{2,}", line.strip()) for line in found.group(1).splitlines()]
    return [name for line in lines if line != [""] for name in line[:-1]]


def test_the_page_on_the_architecture_shows_the_import_contract() -> None:
    """Every module of it once, in its order, each with a description, and nothing else."""
    assert shown() == contract()
