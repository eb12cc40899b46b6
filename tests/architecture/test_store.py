# SPDX-License-Identifier: Apache-2.0
"""The contract of a store is small, and whoever uses a store knows the contract only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import REGISTRY, TOP, Module

CONTRACT = REGISTRY.modules["buildset_registry.store.base"]
PROTOCOLS = [
    node
    for node in CONTRACT.classes
    if any(ast.unparse(base).startswith("Protocol") for base in node.bases)
]
MOST_METHODS = 5
FILES = sorted([*REGISTRY.folder.rglob("*.py"), *(TOP / "tests").rglob("*.py")])


def test_the_contract_consists_of_protocols() -> None:
    """Otherwise the next test would look at nothing."""
    assert PROTOCOLS


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda node: node.name)
def test_a_protocol_of_the_contract_has_five_methods_at_most(protocol: ast.ClassDef) -> None:
    """Properties count; what is in a protocol that it extends counts there."""
    methods = [
        node.name
        for node in protocol.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(methods) <= MOST_METHODS, methods


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_no_annotation_names_the_union_of_two_stores(path: Path) -> None:
    """A back-end is added without telling those who use a store."""
    assert not [
        ast.unparse(node)
        for node in Module(path, "").nodes
        if len({name for name in united(node) if name.endswith("Store")}) > 1
    ]


def united(node: ast.AST) -> Iterator[str]:
    """Yield the names of the types that ``A | B`` or ``Union[A, B]`` is made of."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        for side in (node.left, node.right):
            yield from united(side) if isinstance(side, ast.BinOp) else (ast.unparse(side),)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Union"):
        yield from (ast.unparse(one) for one in getattr(node.slice, "elts", []))
