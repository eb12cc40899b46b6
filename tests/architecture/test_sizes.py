# SPDX-License-Identifier: Apache-2.0
"""Each file can be read in a sitting, and is worth opening: neither long nor a few lines apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import (
    MODULES,
    PACKAGES,
    TOP,
    Module,
    Package,
    importers,
    imports,
    module_name,
    resolve,
)

BENCH = [Module(path, module_name(path, TOP)) for path in sorted((TOP / "bench").rglob("*.py"))]
LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
#: A module of fewer lines lives with whom imports it, if that is one only.
SHORT_MODULE = 60
SHORT = [
    pytest.param(package, module, id=module.name)
    for package in PACKAGES
    for module in package.modules.values()
    if module.lines < SHORT_MODULE and not module.is_package and module.path.stem != "__main__"
]
#: What reaches out of the process, waits, or writes: who imports one of these is not pure.
REACHES_OUT = frozenset(
    {
        *("aiohttp", "asyncio", "fcntl", "granian", "http.client", "logging", "mmap", "os"),
        *("resource", "select", "shutil", "signal", "socket", "ssl", "subprocess", "sys"),
        *("tempfile", "threading", "urllib.request", "uvloop"),
    }
)
#: The module itself is to have no paths, either; what it imports may be values that hold some.
FILES = frozenset({"pathlib"})
#: So many neighbours in one list, tuple or mapping make a table, whose rows live by themselves.
ROWS = 3


@pytest.mark.parametrize("module", [*MODULES, *BENCH], ids=str)
def test_a_module_is_small_and_so_are_its_functions(module: Module) -> None:
    """A module has 400 lines at most, and each function of it 40."""
    assert module.lines <= LONGEST_MODULE
    long = [node.name for node in module.functions if length(node) > LONGEST_FUNCTION]
    assert not long


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function, without its decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize(("package", "module"), SHORT)
def test_a_short_module_has_several_importers(package: Package, module: Module) -> None:
    """A module under 60 lines with one importer lives with that, unless it is one of three.

    It is the row of a table, such as a command or a handler; or it is pure and tested alone.
    """
    users = importers(package)[module.name]
    if len(users) == 1 and not is_row(package, module, users[0]):
        assert is_pure(package, module), f"{users[0]} alone imports it"
        assert is_tested_alone(module), f"{users[0]} alone imports it, and no test file of its own"


def is_row(package: Package, module: Module, table: Module) -> bool:
    """Tell whether a module's importer names it beside neighbours in a list, tuple or mapping."""
    homes = {one.bound: resolve(package, one) for one in imports(table)}
    displays = (node for node in table.nodes if isinstance(node, ast.List | ast.Tuple | ast.Dict))
    for display in displays:
        used = {homes.get(node.id) for node in ast.walk(display) if isinstance(node, ast.Name)}
        near = {name for name in used if name and name.rpartition(".")[0] == parent(module)}
        if module.name in near and len(near) >= ROWS:
            return True
    return False


def parent(module: Module) -> str:
    """Return the package that a module is in."""
    return module.name.rpartition(".")[0]


def is_pure(package: Package, module: Module) -> bool:
    """Tell whether nothing that a module imports, of its package at any remove, reaches out."""
    if foreign(module) & (REACHES_OUT | FILES):
        return False
    return not any(foreign(other) & REACHES_OUT for other in reached(package, module))


def foreign(module: Module) -> set[str]:
    """Return the names of all modules that a module imports, with those that hold them."""
    names = {name for one in imports(module) for name in (one.module, f"{one.module}.{one.name}")}
    return names | {name.partition(".")[0] for name in names}


def reached(package: Package, module: Module) -> Iterator[Module]:
    """Yield the modules of a package that one imports, directly or by others."""
    seen, waiting = set[str](), [module]
    while waiting:
        for one in imports(waiting.pop()):
            name = resolve(package, one)
            if name is not None and name not in seen:
                seen.add(name)
                waiting.append(package.modules[name])
                yield package.modules[name]


def is_tested_alone(module: Module) -> bool:
    """Tell whether a test file that is named after a module imports it."""
    return any(
        module.name in foreign(Module(path, ""))
        for path in Path(TOP, "tests").rglob(f"test_{module.path.stem}.py")
    )


#: A package in which ``user`` alone imports ``part``, in each of the ways that count, or do not.
MADE = {
    "it is imported as a module": ("import os", "from made import part", False),
    "it is imported for what it has": ("import os", "from made.part import thing", False),
    "it is imported from what hands it on": ("import os", "from made import thing", False),
    "it is pure, but has no test": ("import re", "from made.part import thing", False),
    "it is the row of a table": (
        "import os",
        "from made import a, b, part\nT = [a, b, part]",
        True,
    ),
    "it is in a list of two": ("import os", "from made import a, part\nT = [a, part]", False),
}


@pytest.mark.parametrize("told", MADE)
def test_the_rule_of_short_modules_knows_a_case(told: str, tmp_path: Path) -> None:
    """Otherwise it would let everything pass, or tables not."""
    part, user, allowed = MADE[told]
    folder = tmp_path / "made"
    folder.mkdir()
    files = {
        "__init__": "from made.part import thing",
        "part": part,
        "user": user,
        "a": "",
        "b": "",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    package = Package(folder)
    module = package.modules["made.part"]
    (importer,) = importers(package)[module.name]
    assert importer.name == "made.user"
    kept = is_row(package, module, importer) or (
        is_pure(package, module) and is_tested_alone(module)
    )
    assert kept is allowed
