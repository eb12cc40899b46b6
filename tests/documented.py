# SPDX-License-Identifier: Apache-2.0
"""Steps that a page of the documentation shows, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Stands in for the unit of a host that systemd runs.
_SYSTEMCTL = """\
#!/bin/sh
case $1 in
    stop) buildset-registry down --root {root} ;;
    start) buildset-registry up --root {root} --supervisor process ;;
    restart) "$0" stop && "$0" start ;;
esac
"""
_PROGRAM = '#!/bin/sh\nexec "{python}" -m buildset_registry "$@"\n'


def steps(page: str, title: str) -> list[str]:
    """Return the commands that a page shows below a title, in their order."""
    text = (DOCS / "how-to" / f"{page}.rst").read_text()
    section = text.partition(f"\n{title}\n{'-' * len(title)}\n")[2]
    assert section, f"{page} has no {title}"
    section = re.split(r"\n\S.*\n-+\n", section)[0]
    lines = re.sub(r"\\\n\s+", "", section).splitlines()
    return [line.strip()[2:] for line in lines if re.match(r"\s+\$ ", line)]


@dataclass
class Operator:
    """Somebody who types what a page shows, on a registry with a root of its own."""

    folder: Path
    """Where the commands are run; programs that stand in for others are made there."""

    root: Path
    """The folder of the registry, which pages call /var/lib/buildset-registry."""

    places: Mapping[str, str] = field(default_factory=dict)
    """Other words of pages, and what they are here."""

    def __post_init__(self) -> None:
        programs = self.folder / "programs"
        programs.mkdir(parents=True)
        texts = {
            "systemctl": _SYSTEMCTL.format(root=self.root),
            "buildset-registry": _PROGRAM.format(python=sys.executable),
        }
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    def type(self, command: str, code: int = 0) -> str:
        """Run a command, and return all that it says."""
        for there, here in {**self.places, "/var/lib/buildset-registry": str(self.root)}.items():
            command = command.replace(there, here)
        path = os.pathsep.join([str(self.folder / "programs"), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.stdout}"
        return done.stdout
