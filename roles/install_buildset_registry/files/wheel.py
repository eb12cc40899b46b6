# SPDX-License-Identifier: Apache-2.0
"""Make a wheel of the program that this role ships, with the standard library only.

A node installs the version that the role carries, so nothing has to be released or built with
a tool from an index first. The same content always gives the same file, and its version ends in
a hash of the content: pip sees every change as another version, and no change as none.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAYLOAD = Path(__file__).resolve().parent / "buildset-registry"
PACKAGE = "buildset_registry"
#: The second one is a link to what the role use_buildset_registry has: its only copy.
PACKAGES = (PACKAGE, "buildset_clients")
#: The oldest time that a zip file can tell.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)


class Project(NamedTuple):
    """What ``pyproject.toml`` and the package say of the distribution."""

    name: str
    version: str
    summary: str
    requires_python: str
    dependencies: list[str]
    extras: dict[str, list[str]]
    scripts: dict[str, str]


def strings(text: str, key: str) -> list[str]:
    """Read a TOML array of strings, which is a list of Python's as well."""
    found = re.search(rf"^{key}\s*=\s*(\[.*?^\])", text, re.MULTILINE | re.DOTALL)
    return list(ast.literal_eval(found.group(1))) if found else []


def string(text: str, key: str) -> str:
    """Read a TOML string."""
    found = re.search(rf'^{key}\s*=\s*"(.*)"$', text, re.MULTILINE)
    if not found:
        raise ValueError(f"{key} is missing")
    return found.group(1)


def read_project(payload: Path = PAYLOAD) -> Project:
    """Read the project's metadata; Python 3.10 has no TOML reader, so by pattern."""
    text = (payload / "pyproject.toml").read_text(encoding="utf-8")
    scripts = text.partition("[project.scripts]\n")[2].partition("\n[")[0]
    extras = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    init = (payload / "src" / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    return Project(
        name=string(text, "name"),
        version=f"{string(init, '__version__')}+src.{content_hash(payload)}",
        summary=string(text, "description"),
        requires_python=string(text, "requires-python"),
        dependencies=strings(text, "dependencies"),
        extras={
            name: list(ast.literal_eval(array))
            for name, array in re.findall(r"^([\w-]+)\s*=\s*(\[.*\])$", extras, re.MULTILINE)
        },
        scripts=dict(re.findall(r'^([\w-]+)\s*=\s*"(.*)"$', scripts, re.MULTILINE)),
    )


def sources(payload: Path = PAYLOAD) -> Iterator[Path]:
    """Yield the packages' files, in an order that does not depend on the file system."""
    for package in PACKAGES:
        for path in sorted((payload / "src" / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def content_hash(payload: Path = PAYLOAD) -> str:
    """Tell one state of the program from another."""
    digest = hashlib.sha256()
    for path in [payload / "pyproject.toml", *sources(payload)]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(payload).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def file_name(project: Project) -> str:
    """Name the wheel as pip expects it."""
    return f"{PACKAGE}-{project.version}-py3-none-any.whl"


def metadata(project: Project) -> dict[str, str]:
    """Write the files of the ``.dist-info`` folder, but for ``RECORD``."""
    fields = [
        "Metadata-Version: 2.1",
        f"Name: {project.name}",
        f"Version: {project.version}",
        f"Summary: {project.summary}",
        "License: Apache-2.0",
        f"Requires-Python: {project.requires_python}",
        *(f"Requires-Dist: {dependency}" for dependency in project.dependencies),
    ]
    for extra, dependencies in project.extras.items():
        fields.append(f"Provides-Extra: {extra}")
        fields += [f"Requires-Dist: {one}; extra == '{extra}'" for one in dependencies]
    wheel = [
        "Wheel-Version: 1.0",
        "Generator: install_buildset_registry",
        "Root-Is-Purelib: true",
        "Tag: py3-none-any",
    ]
    scripts = [f"{name} = {target}" for name, target in project.scripts.items()]
    return {
        "METADATA": "\n".join([*fields, ""]),
        "WHEEL": "\n".join([*wheel, ""]),
        "entry_points.txt": "\n".join(["[console_scripts]", *scripts, ""]),
    }


def contents(project: Project, payload: Path) -> dict[str, bytes]:
    """Collect every file of the wheel with its ``RECORD``."""
    files = {
        path.relative_to(payload / "src").as_posix(): path.read_bytes() for path in sources(payload)
    }
    info = f"{PACKAGE}-{project.version}.dist-info"
    files.update({f"{info}/{name}": text.encode() for name, text in metadata(project).items()})
    record = [
        f"{name},sha256={urlsafe_hash(content)},{len(content)}" for name, content in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    return files


def urlsafe_hash(content: bytes) -> str:
    """Hash a file as ``RECORD`` wants it."""
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def build(folder: Path, payload: Path = PAYLOAD) -> Path:
    """Write the wheel into a folder and tell its path."""
    project = read_project(payload)
    target = folder / file_name(project)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents(project, payload).items():
            entry = zipfile.ZipInfo(name, TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return target
