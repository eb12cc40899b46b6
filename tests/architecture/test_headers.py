# SPDX-License-Identifier: Apache-2.0
"""Every file of code says its licence, and the right one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CODE = (".py", ".sh", ".yml", ".yaml", ".toml", ".j2")
#: What tools write or want as it is.
WITHOUT = ("changelogs/", "REUSE.toml", ".yamllint")


def code_files() -> list[str]:
    """Return the files of code that git tracks and that hold something."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    files = [name for name in names if name.endswith(CODE) and not name.startswith(WITHOUT)]
    return [name for name in files if (TOP / name).is_file() and (TOP / name).stat().st_size]


def licence(name: str) -> str:
    """Return the licence that the head of a file names."""
    head = "\n".join((TOP / name).read_text().splitlines()[:6])
    found = re.search(r"SPDX-License-Identifier\W+(.*)", head)
    return found.group(1).strip() if found else ""


def expected(name: str) -> str:
    """Return the licence a file should have: modules are under the one that ansible-test wants."""
    is_module = name.startswith("plugins/modules/") or "/library/" in name
    return "GPL-3.0-or-later" if is_module else "Apache-2.0"


def test_every_code_file_names_its_licence() -> None:
    """Code is under Apache-2.0, modules for Ansible under GPL-3.0-or-later."""
    wrong = {name: licence(name) for name in code_files() if licence(name) != expected(name)}
    assert not wrong
