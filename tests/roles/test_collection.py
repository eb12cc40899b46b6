# SPDX-License-Identifier: Apache-2.0
"""What stands twice in the repository, and the collection as it is built and installed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.roles.harness import REPOSITORY, ROLES, Desk, get
from tests.use.places import FACTS
from tools.stage import copy_files

PLUGINS = REPOSITORY / "plugins" / "modules"
PROGRAM = ROLES / "install_buildset_registry/files/buildset-registry/src/buildset_registry"
#: A role that has the modules of another one has a link to their folder.
LIBRARIES = sorted(path for path in ROLES.glob("*/library/*.py") if not path.parent.is_symlink())
USE = "use_buildset_registry"


def load(path: Path) -> Any:
    """Read a YAML file."""
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: str(path.relative_to(ROLES)))
def test_modules_of_roles_are_those_of_the_collection(path: Path) -> None:
    """A role has its modules beside it, for checkouts that hold the roles only; here are links."""
    link = PLUGINS / path.name
    assert not path.is_symlink()
    assert link.is_symlink()
    assert link.resolve() == path


def test_collection_has_no_other_modules() -> None:
    """Each module belongs to a role, and is in the group for which defaults can be set at once."""
    modules = sorted(path.stem for path in LIBRARIES)
    assert sorted(path.stem for path in PLUGINS.glob("*.py")) == modules
    assert load(REPOSITORY / "meta/runtime.yml")["action_groups"]["registry"] == modules


@pytest.mark.parametrize("name", ["library", "module_utils"])
def test_a_role_borrows_from_a_role_beside_it(name: str) -> None:
    """A checkout may hold the roles only."""
    for path in ROLES.glob(f"*/{name}"):
        if path.is_symlink():
            assert path.resolve().parent.parent == ROLES
            assert not path.readlink().is_absolute()


def test_collection_has_the_working_code_of_roles() -> None:
    """Each package of a role's module_utils has a link among the collection's."""
    packages = {path.resolve() for path in ROLES.glob("*/module_utils/*")}
    links = (REPOSITORY / "plugins" / "module_utils").iterdir()
    assert {path.resolve() for path in links if path.is_symlink()} == packages


def test_published_are_files_in_place_of_links(tmp_path: Path) -> None:
    """Each link becomes what it leads to, file by file."""
    copy_files(tmp_path / "stage")
    stage = tmp_path / "stage"
    assert not [path for path in stage.rglob("*") if path.is_symlink()]
    for kind, folder in (("library", "modules"), ("module_utils", "module_utils")):
        files = {
            path.relative_to(role / kind): path.read_bytes()
            for role in ROLES.iterdir()
            for path in modules_below(role / kind)
        }
        there = stage / "plugins" / folder
        assert {path.relative_to(there): path.read_bytes() for path in there.rglob("*.py")} == files


def modules_below(folder: Path) -> list[Path]:
    """Return the files of Python below a folder, links to folders followed."""
    found = [(Path(place), names) for place, _, names in os.walk(folder, followlinks=True)]
    return [place / name for place, names in found for name in names if name.endswith(".py")]


def test_collection_and_program_have_one_version() -> None:
    """They are released together."""
    program = re.search(r'__version__ = "(.*)"', (PROGRAM / "__init__.py").read_text())
    assert program
    assert load(REPOSITORY / "galaxy.yml")["version"] == program.group(1)


def test_namespaces_are_the_upstreams_of_the_program() -> None:
    """The role pulls through from what the command does by itself."""
    from buildset_registry.config import DEFAULT_UPSTREAMS

    defaults = load(ROLES / "run_buildset_registry/defaults/main.yml")
    assert dict(defaults["buildset_registry_namespaces"]) == DEFAULT_UPSTREAMS


def test_roles_know_the_same_namespaces() -> None:
    """A node is told of what the registry stands in for."""
    roles = [ROLES / role / "defaults/main.yml" for role in ("run_buildset_registry", USE)]
    first, second = (load(path)["buildset_registry_namespaces"] for path in roles)
    assert first == second


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_variables_are_specified_and_documented(role: str) -> None:
    """Every default is in the argument specification and in the README."""
    path = ROLES / role / "defaults" / "main.yml"
    defaults = load(path) if path.exists() else {}
    options = load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    readme = (ROLES / role / "README.rst").read_text()
    documented = set(re.findall(r"^   \* - ``(\w+)``$", readme, re.MULTILINE))
    assert set(defaults) <= set(options) <= documented
    for name, option in options.items():
        computed = "{{" in str(defaults.get(name))
        if "default" in option and not computed:
            assert option["default"] == defaults[name]


@pytest.fixture
def collection(desk: Desk) -> Desk:
    """Build the collection and install it into an empty path."""
    galaxy = (desk.environment / "bin" / "python", "-m", "ansible", "galaxy", "collection")
    built = desk.command(*galaxy, "build", REPOSITORY, "--output-path", desk.folder)
    assert built.returncode == 0, built.stdout
    (archive,) = desk.folder.glob("*.tar.gz")
    installed = desk.command(*galaxy, "install", archive, "-p", desk.folder / "collections")
    assert installed.returncode == 0, installed.stdout
    desk.roles = desk.folder / "no-roles"
    return desk


def test_playbooks_of_the_installed_collection(collection: Desk) -> None:
    """The collection runs from an empty path, with no checkout at hand."""
    started = collection.playbook("buildset.registry.run")
    assert started.code == 0, started.output
    again = collection.playbook("buildset.registry.run")
    assert again.recap["changed"] == 0, again.output
    tried = collection.playbook("buildset.registry.demo")
    assert tried.code == 0, tried.output
    stopped = collection.playbook("buildset.registry.stop")
    assert stopped.recap["changed"] == 1, stopped.output
    assert collection.playbook("buildset.registry.stop").recap["changed"] == 0


def test_role_by_its_full_name(collection: Desk) -> None:
    """A role of the collection finds the other one and the modules by their short names."""
    run = collection.role("buildset.registry.run_buildset_registry")
    assert run.code == 0, run.output
    assert run.facts
    assert get(run.facts) == 200


def test_role_with_working_code_by_its_full_name(collection: Desk) -> None:
    """The role's own module finds what stands in the role's module_utils."""
    run = collection.role(f"buildset.registry.{USE}", "--check", buildset_registry=FACTS)
    assert run.code == 0, run.output
    assert run.recap["changed"] == 1


@pytest.mark.parametrize("tool", ["skopeo", "podman", "requests"])
def test_the_demonstration_pulls_what_it_pushed(
    desk: Desk, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is pushed, pulled back and found equal, by every tool, in whatever folder."""
    with TemporaryDirectory(suffix="_") as no_name:  # in /tmp: podman takes no long paths
        monkeypatch.setitem(desk.settings, "TMPDIR", no_name)
        _demonstrate(desk, tool)


def _demonstrate(desk: Desk, tool: str) -> None:
    playbooks = [REPOSITORY / "playbooks" / f"{name}.yml" for name in ("run", "demo")]
    run = desk.playbook(playbooks[1], str(playbooks[0]), buildset_registry_demo_tool=tool)
    assert run.code == 0, run.output
    digests = re.findall(rf"(?:pushed|pulled) by {tool}: (sha256:\w+)", run.output)
    assert len(digests) == 2
    assert digests[0] == digests[1]
