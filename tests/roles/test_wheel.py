# SPDX-License-Identifier: Apache-2.0
"""The wheel that the role makes of the program it carries, and what its variable may name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.roles.harness import ROLES, environment_with

FILES = ROLES / "install_buildset_registry" / "files"


@pytest.fixture(scope="module")
def bundle() -> ModuleType:
    """Import the role's scripts, which stand beside each other."""
    sys.path.insert(0, str(FILES))
    try:
        return import_module("bundle")
    finally:
        sys.path.remove(str(FILES))


@pytest.fixture(scope="module")
def wheel(bundle: ModuleType) -> ModuleType:
    """The script that makes the wheel."""
    return import_module("wheel")


@pytest.fixture
def payload(tmp_path: Path, wheel: ModuleType) -> Path:
    """A copy of the program that a test may change."""
    copy = tmp_path / "payload"
    shutil.copytree(wheel.PAYLOAD, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def parts(path: Path) -> tuple[set[str], dict[str, list[str]], str]:
    """Tell a wheel's files, the metadata that pip acts on, and its entry points."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        fields = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        points = archive.read(f"{info}/entry_points.txt").decode().strip()
    files = {name for name in names if not name.startswith(info)}
    wanted = ("Name", "Requires-Python", "Requires-Dist", "Summary")
    metadata = {name: sorted(normal(each) for each in fields.get_all(name, [])) for name in wanted}
    return files, metadata, points


def normal(value: str) -> str:
    """Write a requirement in the one of its forms that sorts first."""
    name, conditions = re.split(r"(?=[<>=]|$)", value.lower(), maxsplit=1)
    return name + ",".join(sorted(conditions.split(",")))


def test_same_content_gives_the_same_file(tmp_path: Path, wheel: ModuleType) -> None:
    """The wheel is reproducible."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    one, other = wheel.build(first), wheel.build(second)
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_every_change_gives_another_version(payload: Path, wheel: ModuleType) -> None:
    """Pip sees a change of the program as another version, and nothing else as one."""
    before = wheel.read_project(payload).version
    (payload / "src" / "buildset_registry" / "__pycache__").mkdir()
    (payload / "src" / "buildset_registry" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert wheel.read_project(payload).version == before
    module = payload / "src" / "buildset_registry" / "__main__.py"
    module.write_text(module.read_text() + "# changed\n")
    assert wheel.read_project(payload).version != before


def test_wheel_is_what_the_build_backend_makes(
    tmp_path: Path, payload: Path, wheel: ModuleType
) -> None:
    """Files, requirements and entry points are those of the wheel that is released."""
    python = environment_with("hatchling==1.33.0") / "bin" / "python"
    build = [
        str(python),
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "released"),
    ]
    subprocess.run(build, cwd=payload, check=True, capture_output=True)
    (released,) = (tmp_path / "released").glob("*.whl")
    assert parts(wheel.build(tmp_path, payload)) == parts(released)


def test_record_names_every_file_with_its_hash(tmp_path: Path, wheel: ModuleType) -> None:
    """Pip can verify and remove what it installs."""
    with zipfile.ZipFile(wheel.build(tmp_path)) as archive:
        record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        lines = archive.read(record).decode().splitlines()
        entries = {line.rsplit(",", 2)[0]: line.rsplit(",", 2)[1] for line in lines}
        assert set(entries) == set(archive.namelist())
        for name, told in entries.items():
            if name != record:
                assert told == "sha256=" + wheel.urlsafe_hash(archive.read(name))


@pytest.mark.parametrize(
    ("package", "requirement"),
    [
        ("0.3.1", "buildset-registry==0.3.1"),
        (">=0.3,<1", "buildset-registry>=0.3,<1"),
        ("buildset-registry~=0.3", "buildset-registry~=0.3"),
        ("https://example.com/buildset_registry-1-py3-none-any.whl", None),
    ],
)
def test_requirements_are_left_to_pip(
    bundle: ModuleType, package: str, requirement: str | None
) -> None:
    """A version, a requirement and a URL are for pip to find."""
    told = bundle.describe(package, False)
    assert told["kind"] == "requirement"
    assert told["source"] == (requirement or package)


@pytest.mark.parametrize(
    ("package", "requirement"),
    [
        ("0.3.1", "buildset-registry[s3,swift]==0.3.1"),
        ("buildset_registry~=0.3", "buildset_registry[s3,swift]~=0.3"),
        ("buildset-registry[gcs]>=1", "buildset-registry[gcs]>=1"),
        ("https://example.com/a.whl", "buildset-registry[s3,swift] @ https://example.com/a.whl"),
        ("", ""),
    ],
)
def test_extras_are_asked_for_beside_any_package(
    bundle: ModuleType, package: str, requirement: str
) -> None:
    """In whatever order they are named; another choice is another installation."""
    told = bundle.describe(package, False, " swift,s3")
    assert told["source"] == requirement
    assert told["extras"] == "s3,swift"
    assert told["wanted"] != bundle.describe(package, False)["wanted"]


def test_an_extra_that_is_none_is_told_with_those_that_are(bundle: ModuleType) -> None:
    """A word that pip would only warn of."""
    message = bundle.describe("", False, "s3,ftp")["error"]
    assert "there is no ftp; choose of acme, azure, gcs, oss, s3, swift" in message


def test_another_wheel_under_the_same_name_is_noticed(bundle: ModuleType, tmp_path: Path) -> None:
    """A wheel is known by its content."""
    path = tmp_path / "buildset_registry-1-py3-none-any.whl"
    path.write_bytes(b"one")
    first = bundle.describe(str(path), False)
    path.write_bytes(b"two")
    second = bundle.describe(str(path), False)
    assert first["kind"] == second["kind"] == "wheel"
    assert first["wanted"] != second["wanted"]


@pytest.mark.parametrize("holds_ours", [True, False], ids=["with", "without"])
def test_wheelhouse_is_sent_with_the_program(
    bundle: ModuleType, wheel: ModuleType, tmp_path: Path, holds_ours: bool
) -> None:
    """A wheelhouse that lacks the program is sent with the one that the role carries."""
    house = tmp_path / "house"
    house.mkdir()
    (house / "other-1-py3-none-any.whl").touch()
    ours = "buildset_registry-9-py3-none-any.whl"
    if holds_ours:
        (house / ours).touch()
    bundle.pack(tmp_path / "bundle.tar", str(house), False)
    with tarfile.open(tmp_path / "bundle.tar") as archive:
        names = set(archive.getnames())
    expected = ours if holds_ours else wheel.file_name(wheel.read_project())
    assert names == {"other-1-py3-none-any.whl", expected}


@pytest.mark.parametrize("package", ["/no/such/wheel.whl", "no/such/folder", "nonsense"])
def test_package_that_is_none(bundle: ModuleType, package: str) -> None:
    """A path that does not exist on the controller may be meant for the node."""
    assert "buildset_registry_package_remote_src" in bundle.describe(package, False)["error"]


def test_file_that_is_no_wheel(bundle: ModuleType, tmp_path: Path) -> None:
    """A source archive would have to be built on the node."""
    path = tmp_path / "buildset-registry-1.zip"
    path.touch()
    assert "neither a wheel nor a folder" in bundle.describe(str(path), False)["error"]
