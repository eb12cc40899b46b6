# SPDX-License-Identifier: Apache-2.0
"""Source code as these tests read it: the packages with an architecture, and who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
#: What modules for Ansible are called where those who import are listed.
LIBRARY = "library"


@dataclass(frozen=True)
class Module:
    """A file of Python, and the name by which others import it."""

    path: Path
    name: str

    def __str__(self) -> str:
        return self.name

    @cached_property
    def lines(self) -> int:
        """Its length."""
        return len(self.path.read_text().splitlines())

    @cached_property
    def tree(self) -> ast.Module:
        """What is in it."""
        return ast.parse(self.path.read_text())

    @property
    def is_package(self) -> bool:
        """Whether it stands for its folder."""
        return self.path.stem == "__init__"

    @property
    def package(self) -> str:
        """The package that relative imports begin at."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Its syntax nodes, at any depth."""
        return list(ast.walk(self.tree))

    @property
    def classes(self) -> list[ast.ClassDef]:
        """Its classes, also those in functions."""
        return [node for node in self.nodes if isinstance(node, ast.ClassDef)]

    @property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Its functions and methods, also those in functions."""
        return [node for node in self.nodes if isinstance(node, FUNCTION)]


@dataclass(frozen=True)
class Package:
    """A package, by the folder that holds it."""

    folder: Path

    @property
    def name(self) -> str:
        """The name by which it is imported."""
        return self.folder.name

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Its modules by name; a link's are those of where it leads."""
        found = (
            Module(path, module_name(path, self.folder.parent))
            for path in self.folder.rglob("*.py")
            if not path.is_symlink()
        )
        return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def module_name(path: Path, folder: Path) -> str:
    """Return the dotted name of a file that is imported from ``folder``."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


REGISTRY = Package(TOP / "registry" / "src" / "buildset_registry")
#: Every package whose size, names and docstrings are checked: the program, and what modules for
#: Ansible share.
PACKAGES = [
    REGISTRY,
    *(
        Package(path)
        for path in sorted((TOP / "roles").glob("*/module_utils/*"))
        if (path / "__init__.py").is_file() and not path.parent.is_symlink()
    ),
]
MODULES = [module for package in PACKAGES for module in package.modules.values()]


@dataclass(frozen=True)
class Import:
    """A name that a module binds by an import: ``module`` is where it comes from."""

    module: str
    name: str
    bound: str


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Return all imports of a module, at any depth; what is relative is named in full."""
    found: list[Import] = []
    for node in module.nodes:
        if isinstance(node, ast.Import):
            found += [Import(one.name, "", one.asname or one.name) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = _source(module, node)
            found += [Import(source, one.name, one.asname or one.name) for one in node.names]
    return tuple(found)


def _source(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def resolve(package: Package, one: Import) -> str | None:
    """Return the module of the package that defines what is imported; None for another's.

    A name that a package's ``__init__`` hands on comes from where that has it.
    """
    whole = f"{one.module}.{one.name}"
    if whole in package.modules:
        return whole
    source = package.modules.get(one.module)
    if source is None:
        return None
    if source.is_package:
        for handed in imports(source):
            if handed.bound == one.name and (found := resolve(package, handed)):
                return found
    return source.name


def outside() -> Iterator[Module]:
    """Yield the programs beside the packages that import them: modules for Ansible."""
    found = (TOP / "roles").glob("*/library/*.py")
    for path in sorted(path for path in found if not path.parent.is_symlink()):
        yield Module(path, f"{LIBRARY}.{path.stem}")


@cache
def importers(package: Package) -> dict[str, list[Module]]:
    """Return who imports each module of a package.

    But for ``__init__``, which hands on what others ask it for.
    """
    found: dict[str, list[Module]] = {name: [] for name in package.modules}
    for other in (*package.modules.values(), *outside()):
        if not other.is_package:
            asked = {resolve(package, _inside(package, one)) for one in imports(other)}
            for name in asked - {None, other.name}:
                found[str(name)].append(other)
    return found


def _inside(package: Package, one: Import) -> Import:
    """Name a module as its package does where Ansible finds it elsewhere."""
    _, found, rest = f".{one.module}.".partition(f".{package.name}.")
    return Import(f"{package.name}.{rest}".rstrip("."), one.name, one.bound) if found else one
