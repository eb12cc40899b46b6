# SPDX-License-Identifier: Apache-2.0
"""Build the collection as it is published, and install it into ``build/collections``.

Published is what git tracks, less galaxy.yml's ``build_ignore``. Two things are added: README.md
files, because Galaxy reads Markdown only, and the changelog that the fragments make. Beside it goes
the wheel of the program, as the role makes it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
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


def copy_tracked() -> None:
    """Copy what git tracks to the stage; links stay links."""
    for name in tracked():
        target = STAGE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, target, follow_symlinks=False)


def write_markdown() -> None:
    """Write README.md beside README.rst, for the collection and for each role."""
    for source in [STAGE / "README.rst", *sorted(STAGE.glob("roles/*/README.rst"))]:
        work = TOP / "build" / "markdown" / source.parent.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        text = source.read_text()
        if source.parent != STAGE:
            # A role's README has no title: zuul-sphinx sets it under the role's name.
            text = f"{source.parent.name}\n{'=' * 40}\n\n{text}"
        (work / "README.rst").write_text(text)
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
    for folder in (STAGE, DIST, COLLECTIONS):
        shutil.rmtree(folder, ignore_errors=True)
    copy_tracked()
    write_markdown()
    write_changelog()
    run("ansible-galaxy", "collection", "build", "--output-path", DIST, STAGE)
    (archive,) = DIST.glob("*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--collections-path", COLLECTIONS, archive)
    build_wheel()


if __name__ == "__main__":
    main()
