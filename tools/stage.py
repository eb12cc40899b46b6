# SPDX-License-Identifier: Apache-2.0
"""Build the collection as it is published, and install it into ``build/collections``.

Published is what git tracks, less galaxy.yml's ``build_ignore``. Links become files, since
``ansible-doc --list`` passes over links. Two things are added: README.md files, because Galaxy
reads Markdown only, and the changelog that the fragments make. Beside it goes the wheel of the
program, as the role makes it.

With a folder as argument, what git tracks is copied there so, and nothing more is done.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
STAGE = TOP / "build" / "stage"
DIST = TOP / "build" / "dist"
COLLECTIONS = TOP / "build" / "collections"


def run(*command: str | Path, folder: Path = TOP) -> None:
    """Run a program of this environment; end where it fails."""
    program = Path(sys.executable).with_name(str(command[0]))
    subprocess.run([program, *command[1:]], cwd=folder, check=True, stdin=subprocess.DEVNULL)


def tracked() -> list[str]:
    """Return what git tracks and the work tree has."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True
    ).stdout
    return [name for name in names.decode().split("\0") if name and (TOP / name).exists()]


def published() -> Iterator[tuple[str, Path]]:
    """Yield what is published, by name, and where it is: files, also where git has links."""
    names = tracked()
    for name in names:
        yield from followed(name, TOP / name, names)


def followed(name: str, path: Path, names: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield a file, or what git tracks below the folder that a link leads to, links followed."""
    if not path.is_dir():
        yield name, path
        return
    folder = path.resolve().relative_to(TOP).as_posix()
    for other in names:
        if other.startswith(f"{folder}/"):
            yield from followed(name + other.removeprefix(folder), TOP / other, names)


def copy_files(stage: Path) -> None:
    """Copy what is published to a folder of its own; a link becomes what it leads to."""
    shutil.rmtree(stage, ignore_errors=True)
    for name, source in published():
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def write_markdown() -> None:
    """Write README.md beside README.rst, for the collection and for each role."""
    for source in [STAGE / "README.rst", *sorted(STAGE.glob("roles/*/README.rst"))]:
        work = TOP / "build" / "markdown" / source.parent.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        shutil.copy(source, work)
        shutil.copy(TOP / "tools" / "markdown" / "conf.py", work)
        run("sphinx-build", "-q", "-W", "-b", "markdown", work, work / "out")
        shutil.copy(work / "out" / "README.md", source.with_suffix(".md"))


def write_changelog() -> None:
    """Write CHANGELOG.rst as the next release will say it."""
    pending = any((STAGE / "changelogs" / "fragments").glob("*.yml"))
    run("antsibull-changelog", "release" if pending else "generate", folder=STAGE)


def build_wheel() -> None:
    """Build the program's wheel by the role's script."""
    program = "import sys, wheel; from pathlib import Path; wheel.build(Path(sys.argv[1]))"
    scripts = STAGE / "roles" / "install_buildset_registry" / "files"
    run("python", "-c", program, DIST, folder=scripts)


def main() -> None:
    """Stage, build and install."""
    for folder in (DIST, COLLECTIONS):
        shutil.rmtree(folder, ignore_errors=True)
    copy_files(STAGE)
    write_markdown()
    write_changelog()
    run("ansible-galaxy", "collection", "build", "--output-path", DIST, STAGE)
    (archive,) = DIST.glob("*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--collections-path", COLLECTIONS, archive)
    build_wheel()


if __name__ == "__main__":
    if sys.argv[1:]:
        copy_files(Path(sys.argv[1]))
    else:
        main()
