# SPDX-License-Identifier: Apache-2.0
"""A name stands for one thing, a docstring begins with the thing, a test's name is a sentence."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.architecture.sources import MODULES, TOP, Module

TESTS = sorted((TOP / "tests").rglob("test_*.py"))
#: How a docstring begins that describes where the thing is to be found in a sentence.
QUESTIONS = re.compile(r"(What|Where|Who|How|That)\b")
#: A sentence has a subject and says something of it.
FEWEST_WORDS = 3


def test_no_class_name_stands_for_two_things() -> None:
    """A reader who meets a class by its name knows which one it is."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        for node in module.classes:
            homes[node.name].append(module.name)
    assert not {name: places for name, places in sorted(homes.items()) if len(places) > 1}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_docstring_begins_with_the_thing(module: Module) -> None:
    """Those of modules and public classes: not with What, Where, Who, How or That."""
    public = [node for node in module.classes if not node.name.startswith("_")]
    told = [ast.get_docstring(node) or "" for node in public]
    told.append(ast.get_docstring(module.tree) or "")
    assert not [text.splitlines()[0] for text in told if QUESTIONS.match(text)]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(TOP)))
def test_the_name_of_a_test_is_a_sentence(path: Path) -> None:
    """It has three words at least: ``test_helm`` does not say what helm does."""
    names = [node.name for node in Module(path, "").functions if node.name.startswith("test_")]
    assert not [name for name in names if len(name.split("_")[1:]) < FEWEST_WORDS]
