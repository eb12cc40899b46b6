# SPDX-License-Identifier: Apache-2.0
"""What ansible-test wants of every Python file of the collection, told here in a second."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
FILES = sorted(
    path for top in ("plugins", "roles", "playbooks") for path in (TOP / top).rglob("*.py")
)
PACKAGES = sorted((TOP / "roles").glob("*/module_utils/**/__init__.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_nothing_is_bound_to_an_underscore(path: Path) -> None:
    """A value that is not used has a name such as ``_separator`` (pylint: disallowed-name)."""
    names = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
    assert not [node.lineno for node in names if node.id == "_" and isinstance(node.ctx, ast.Store)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_function_without_a_body_says_what_it_is_for(path: Path) -> None:
    """A method of a protocol has a docstring instead of dots in its line (pycodestyle: E704)."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [node.name for node in functions if node.body[0].lineno == node.lineno]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_a_package_of_module_utils_is_in_its_modules(path: Path) -> None:
    """What is published of module_utils has nothing in ``__init__.py`` (empty-init)."""
    assert path.read_bytes() == b""
