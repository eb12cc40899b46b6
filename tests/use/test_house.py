# SPDX-License-Identifier: Apache-2.0
"""The house that the clients live in: one table that all lists come from, and rooms of a size."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from buildset_clients.clients.table import NAMES

TOP = Path(__file__).resolve().parents[2]
ROLE = TOP / "roles" / "use_buildset_registry"
PACKAGE = ROLE / "module_utils" / "buildset_clients"
PROGRAM = TOP / "registry" / "src" / "buildset_registry"
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE = "buildset.registry.buildset_registry_clients"
LONGEST_MODULE, LONGEST_FUNCTION, SHORTEST_MODULE = 400, 40, 60


def name_of(path: Path) -> str:
    """Tell the name by which a module of the package is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Yield the names that a module imports from within the package, modules or not."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def classes(*folders: Path) -> list[str]:
    """Return the names of the classes of packages."""
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return [node.name for node in nodes if isinstance(node, ast.ClassDef)]


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    """A folder where Ansible and Python find this checkout as a collection."""
    namespace = tmp_path / "ansible_collections" / "buildset"
    namespace.mkdir(parents=True)
    (namespace / "registry").symlink_to(TOP)
    return tmp_path


def told(collections: Path, *words: str) -> str:
    """Run Python where it finds the collection; return what it tells."""
    places = {"ANSIBLE_COLLECTIONS_PATH": str(collections), "PYTHONPATH": str(collections)}
    environment = {**os.environ, **places, "ANSIBLE_HOME": str(collections / "home")}
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout.decode()


def test_the_documentation_of_the_module_has_the_choices_of_the_table(collections: Path) -> None:
    """ansible-doc shows every client, though the module's own text names none."""
    shown = told(collections, "-m", "ansible", "doc", "--type=module", "--json", MODULE)
    assert json.loads(shown)[MODULE]["doc"]["options"]["clients"]["choices"] == NAMES


def test_the_module_takes_the_choices_of_the_table(collections: Path) -> None:
    """As the collection imports it; the role's own copy is the same file."""
    module = "ansible_collections.buildset.registry.plugins.modules.buildset_registry_clients"
    script = f"import json; from {module} import ARGUMENTS; print(json.dumps(ARGUMENTS['clients']))"
    assert json.loads(told(collections, "-c", script))["choices"] == NAMES


def test_the_role_leaves_the_choices_to_the_module() -> None:
    """Its specification cannot read the table, and keeps no list beside it."""
    specification = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    assert "choices" not in options["buildset_registry_clients"]


def test_the_readme_has_the_clients_of_the_table() -> None:
    """In the first column of its own table, each once and in this order."""
    table = (ROLE / "README.rst").read_text().partition("   * - client\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^   \* - (``.*)$", table, re.MULTILINE)
    assert re.findall(r"``(.+?)``", " ".join(rows)) == NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_outside_the_folder_of_clients_names_one(path: Path) -> None:
    """A new client is its file and its row: nothing else tells clients apart."""
    nodes = ast.walk(ast.parse(path.read_text()))
    words = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert path.parent.name == "clients" or not words & set(NAMES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_and_its_functions_can_be_read_in_a_sitting(path: Path) -> None:
    """A module has 400 lines at most, and each function of it 40."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_a_short_module_has_several_importers() -> None:
    """One that has a single importer lives there, unless it is a client: that is a file."""
    importers = Counter(name for path in MODULES for name in set(imports(path)))
    short = [path for path in MODULES if len(path.read_text().splitlines()) < SHORTEST_MODULE]
    rooms = [path for path in short if path.name != "__init__.py" and path.parent.name != "clients"]
    assert not [name_of(path) for path in rooms if importers[name_of(path)] < 2]


def test_no_class_has_the_name_of_another() -> None:
    """Neither of one beside it nor of one of the program."""
    ours = Counter(classes(PACKAGE))
    assert not [name for name, times in ours.items() if times > 1]
    assert not set(ours) & set(classes(PROGRAM))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_docstring_begins_with_the_thing(path: Path) -> None:
    """It does not begin as a question does."""
    nodes = ast.walk(ast.parse(path.read_text()))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
    assert not [text for text in texts if re.match(r"(What|Where|Who|Whose|Which|How)\b", text)]
