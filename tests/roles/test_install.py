# SPDX-License-Identifier: Apache-2.0
"""The role that installs the program: packages, nodes without an index or a Python, mistakes."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.roles.harness import Desk, Run, wheelhouse

ROLE = "install_buildset_registry"


def install(desk: Desk, *options: str, **variables: Any) -> Run:
    """Install into a folder of the desk's own."""
    variables.setdefault("buildset_registry_venv", str(desk.folder / "venv"))
    return desk.role(ROLE, *options, **variables)


def works(venv: Path) -> bool:
    """Tell whether the installed command runs."""
    return (venv / "bin" / "buildset-registry").exists() and (venv / ".installed").exists()


def temporary_files(desk: Desk) -> list[Path]:
    """List what the role has left in the temporary folder."""
    return list((desk.folder / "tmp").iterdir())


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A desk with a temporary folder of its own, to see what is left in it."""
    (desk.folder / "tmp").mkdir()
    desk.settings = {"TMPDIR": str(desk.folder / "tmp")}
    return desk


def test_wheelhouse_without_an_index(desk: Desk) -> None:
    """A folder of wheels on the controller is enough; a second run changes nothing."""
    desk.settings["PIP_INDEX_URL"] = f"http://127.0.0.1:{free_port()}/simple"
    run = install(desk)
    assert run.code == 0, run.output
    assert works(desk.folder / "venv")
    assert run.recap["changed"] == 1
    assert install(desk).recap["changed"] == 0
    assert temporary_files(desk) == []


def test_wheelhouse_on_the_node(desk: Desk) -> None:
    """A folder of wheels may be on the node already."""
    desk.settings["PIP_INDEX_URL"] = f"http://127.0.0.1:{free_port()}/simple"
    run = install(desk, buildset_registry_package_remote_src=True)
    assert run.code == 0, run.output
    assert works(desk.folder / "venv")


@pytest.mark.parametrize("on_the_node", [False, True], ids=["sent", "on the node"])
def test_a_library_of_a_service_comes_from_the_wheelhouse(desk: Desk, on_the_node: bool) -> None:
    """The program is installed with what its storage needs, and again when that changes."""
    desk.settings["PIP_INDEX_URL"] = f"http://127.0.0.1:{free_port()}/simple"
    house = desk.folder / "house"
    shutil.copytree(wheelhouse(), house)
    make_wheel(house, "botocore", "99")
    options = {
        "buildset_registry_package": str(house),
        "buildset_registry_package_remote_src": on_the_node,
    }
    library = "venv/lib/python*/site-packages/botocore.py"
    assert install(desk, **options).code == 0
    assert not list(desk.folder.glob(library))
    for changed in (1, 0):
        run = install(desk, **options, buildset_registry_extras=["s3"])
        assert run.code == 0, run.output
        assert run.recap["changed"] == changed
        assert list(desk.folder.glob(library))


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Make the wheel of a library that has nothing in it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def test_a_node_without_an_index_is_told_what_to_set(desk: Desk) -> None:
    """A node that reaches no index gets one line that says what to set, and nothing half-made."""
    desk.settings["PIP_INDEX_URL"] = f"http://127.0.0.1:{free_port()}/simple"
    desk.settings["PIP_FIND_LINKS"] = ""
    desk.settings["PIP_RETRIES"] = "0"
    run = install(desk, buildset_registry_package="")
    assert run.code != 0
    assert "buildset_registry_package" in run.message
    assert "PIP_INDEX_URL" in run.message
    assert "\n" not in run.message
    assert temporary_files(desk) == []
    repaired = install(desk)
    assert repaired.code == 0, repaired.output
    assert works(desk.folder / "venv")


def test_interrupted_installation_is_repeated(desk: Desk) -> None:
    """Without the marker that is written last, what is there does not count."""
    venv = desk.folder / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "buildset-registry").write_text("half")
    (venv / "bin" / "python").symlink_to("/no/such/python")
    run = install(desk)
    assert run.code == 0, run.output
    assert works(venv)


def test_a_python_that_does_not_serve_is_refused(desk: Desk) -> None:
    """A named Python that does not serve is refused; no other one is taken."""
    run = install(desk, buildset_registry_python="/no/such/python")
    assert run.code != 0
    assert run.message.startswith("/no/such/python is not a Python >= 3.10")
    assert "buildset_registry_python" in run.message
    assert not (desk.folder / "venv").exists()


def test_node_without_python_and_without_root(ordinary_desk: Desk) -> None:
    """A node that has no Python, and where the role may not become root, says what to set."""
    tools = ordinary_desk.folder / "bin"
    tools.mkdir()
    for name in ("id", "sh", "cat", "ls", "mkdir", "chmod", "rm", "echo", "sleep", "mktemp"):
        (tools / name).symlink_to(f"/bin/{name}")
    ordinary_desk.settings["PATH"] = str(tools)
    run = install(ordinary_desk)
    assert run.code != 0
    assert run.message.startswith("there is no Python >= 3.10 on PATH")
    assert "buildset_registry_python" in run.message


@pytest.mark.parametrize("package", ["/no/such.whl", "nonsense"])
def test_package_that_is_none(desk: Desk, package: str) -> None:
    """A package that does not exist is named."""
    run = install(desk, buildset_registry_package=package)
    assert run.code != 0
    assert run.message.startswith("buildset_registry_package: ")
    assert package in run.message


def test_package_that_may_not_be_read(ordinary_desk: Desk) -> None:
    """A package that the user has no right to read is named."""
    closed = ordinary_desk.folder / "closed"
    closed.mkdir(mode=0)
    run = install(ordinary_desk, buildset_registry_package=str(closed / "house"))
    assert run.code != 0
    assert run.message.startswith("buildset_registry_package: ")
    assert str(closed / "house") in run.message


def test_folder_that_cannot_be_written(desk: Desk) -> None:
    """A place that cannot be written is named, with what to set."""
    (desk.folder / "file").touch()
    run = install(desk, buildset_registry_venv=str(desk.folder / "file" / "venv"))
    assert run.code != 0
    assert str(desk.folder / "file") in run.message
    assert "buildset_registry_venv" in run.message


def test_a_variable_of_a_wrong_type_is_refused(desk: Desk) -> None:
    """A variable of a wrong type is refused by its name."""
    run = install(desk, buildset_registry_package_remote_src="perhaps")
    assert run.code != 0
    assert "buildset_registry_package_remote_src" in run.message


def test_check_mode_changes_nothing(desk: Desk) -> None:
    """In check mode the role tells that it would install, and does not."""
    run = install(desk, "--check")
    assert run.code == 0, run.output
    assert run.recap["changed"] == 1
    assert not (desk.folder / "venv").exists()


def test_an_ordinary_user_installs_below_the_home_folder(ordinary_desk: Desk) -> None:
    """A user who may do nothing special gets the program below the home folder."""
    run = install(ordinary_desk, buildset_registry_venv="")
    assert run.code == 0, run.output
    expected = ordinary_desk.home / ".local" / "lib" / "buildset-registry"
    if os.getuid() == 0:
        assert works(expected)


@pytest.mark.parametrize("entry", ["main", "find"])
def test_a_login_in_the_url_of_a_package_is_shown_nowhere(desk: Desk, entry: str) -> None:
    """It is refused before anything would tell it, with what to do instead."""
    url = "https://user:not-to-be-seen@index.invalid/buildset_registry-1.0-py3-none-any.whl"
    venv = str(desk.folder / "venv")
    given = {"buildset_registry_venv": venv, "buildset_registry_package": url}
    include = {"ansible.builtin.include_role": {"name": ROLE, "tasks_from": entry}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [include]}
    run = desk.playbook(desk.write("package.yml", [play]), "-vvv", **given)
    assert run.code != 0
    assert "buildset_registry_package has a login in its URL" in run.output
    assert "not-to-be-seen" not in run.output
    assert temporary_files(desk) == []
