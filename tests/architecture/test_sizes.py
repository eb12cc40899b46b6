# SPDX-License-Identifier: Apache-2.0
"""The program and its benchmark can be read in a sitting: modules and functions are small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "registry" / "src" / "buildset_registry"
MODULES = sorted([*PACKAGE.rglob("*.py"), *(TOP / "bench").rglob("*.py")])
LONGEST_MODULE = 300
LONGEST_FUNCTION = 40


def functions(module: Path) -> list[tuple[str, int]]:
    """Return the functions of a module with their lengths in lines."""
    nodes = ast.walk(ast.parse(module.read_text()))
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_module_is_small(module: Path) -> None:
    """A module has 300 lines at most, and each function of it 40."""
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE
    long = [(name, lines) for name, lines in functions(module) if lines > LONGEST_FUNCTION]
    assert not long
