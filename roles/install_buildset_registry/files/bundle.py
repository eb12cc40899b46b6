# SPDX-License-Identifier: Apache-2.0
"""Tell what is to be installed, and pack it into one file for the node.

``bundle.py describe [PACKAGE]`` prints what a value of ``buildset_registry_package`` means:
``wanted`` names it and changes when its content does, ``kind`` is how a node installs it,
``source`` is the requirement, or the path on the node. ``bundle.py pack FILE [PACKAGE]`` writes
what has to be sent to the node: one file, because a file takes as long as a hundred in it.
``--remote`` says that the package is a path on the node, ``--extras s3,swift`` what the program is
to be installed with. A mistake is told by ``error``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path

import wheel

#: A version, or a list of conditions on it: ``0.3.1``, ``>=0.3,<1``.
VERSION = re.compile(r"[<>=!~]|v?\d[\w.+!-]*$")
REQUIREMENT = re.compile(r"buildset[-_]registry\b(?!.*\.whl$)")


def describe(package: str, remote: bool, extras: str = "") -> dict[str, str]:
    """Tell what the values of the role's variables mean."""
    asked = sorted({name.strip() for name in extras.split(",")} - {""})
    known = wheel.read_project().extras
    unknown = [name for name in asked if name not in known]
    if unknown:
        return {
            "error": f"buildset_registry_extras: there is no {unknown[0]}; choose of "
            + ", ".join(sorted(known))
        }
    told = describe_package(package, remote) | {"extras": ",".join(asked)}
    if asked and "error" not in told:
        told["wanted"] += f" with {told['extras']}"
        if told["kind"] == "requirement":
            told["source"] = with_extras(told["source"], told["extras"])
    return told


def with_extras(requirement: str, extras: str) -> str:
    """Name the extras in a requirement; one that names some itself is left as it is."""
    if "://" in requirement:
        return f"buildset-registry[{extras}] @ {requirement}"
    return re.sub(r"^(buildset[-_]registry)(?!\s*\[)", rf"\1[{extras}]", requirement)


def describe_package(package: str, remote: bool) -> dict[str, str]:
    """Tell what a value of ``buildset_registry_package`` means."""
    payload = wheel.file_name(wheel.read_project())
    if remote:
        return {"wanted": f"{package} or {payload}", "kind": "remote", "source": package}
    if not package:
        return {"wanted": payload, "kind": "wheel", "source": ""}
    if "://" in package:
        return {"wanted": package, "kind": "requirement", "source": package}
    if not Path(package).expanduser().exists():
        return describe_requirement(package)
    path = Path(package).expanduser().resolve()
    if path.is_dir():
        wanted = f"{path.name}@{content_hash(wheels(path))} or {payload}"
        return {"wanted": wanted, "kind": "wheelhouse", "source": str(path)}
    if path.suffix != ".whl":
        return {
            "error": f"buildset_registry_package: {package} is neither a wheel "
            "nor a folder of wheels"
        }
    wanted = f"{path.name}@{content_hash([path])}"
    return {"wanted": wanted, "kind": "wheel", "source": str(path)}


def describe_requirement(package: str) -> dict[str, str]:
    """Tell what a value means that names no file: a version, or a requirement."""
    if VERSION.match(package):
        number = package if package[0] in "<>=!~" else f"=={package}"
        requirement = f"buildset-registry{number}"
    elif REQUIREMENT.match(package):
        requirement = package
    else:
        hint = "buildset_registry_package_remote_src: true says that it is on the node"
        return {
            "error": "buildset_registry_package: no such wheel or folder on the controller: "
            f"{package}; {hint}"
        }
    return {"wanted": requirement, "kind": "requirement", "source": requirement}


def wheels(folder: Path) -> list[Path]:
    """List a wheelhouse."""
    return sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def content_hash(paths: list[Path]) -> str:
    """Notice another content under the same name."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def pack(target: Path, package: str, remote: bool) -> None:
    """Write the files that the node needs as one tar file."""
    what = describe_package(package, remote)
    source = what["source"]
    files: list[Path] = []
    if what["kind"] == "wheelhouse":
        files = wheels(Path(source))
    elif what["kind"] == "wheel" and source:
        files = [Path(source)]
    with tempfile.TemporaryDirectory() as folder, tarfile.open(target, "w") as archive:
        if what["kind"] != "requirement" and not any(map(is_ours, files)):
            files.append(wheel.build(Path(folder)))
        for path in files:
            archive.add(path, arcname=path.name)


def is_ours(path: Path) -> bool:
    """Recognize a wheel of this program."""
    return path.name.startswith(f"{wheel.PACKAGE}-")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remote", action="store_true")
    parser.add_argument("--extras", default="")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("describe", "pack"):
        command = commands.add_parser(name)
        if name == "pack":
            command.add_argument("target", type=Path)
        command.add_argument("package", nargs="?", default="")
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.target, options.package, options.remote)
        return
    try:
        told = describe(options.package, options.remote, options.extras)
    except OSError as error:
        told = {
            "error": f"buildset_registry_package: cannot read {error.filename}: {error.strerror}"
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
