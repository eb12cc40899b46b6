# SPDX-License-Identifier: Apache-2.0
"""Run ``ansible-test sanity`` on the collection that ``tools/stage.py`` has installed.

ansible-test makes virtual environments of its own, in the home folder, and starts each by a script
that it downloads from a host that is not a package index. A file in its cache, which it uses
instead, takes Python's own ``ensurepip``. It also clears the environment, so the settings of pip
that stand there are handed on as a file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

COLLECTION = (
    Path(__file__).resolve().parent.parent
    / "build/collections/ansible_collections/buildset/registry"
)

BOOTSTRAP = """\
import subprocess, sys
wanted = [word for word in sys.argv[1:] if not word.startswith("--no-")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
subprocess.run([sys.executable, "-m", "pip", "install", *wanted], check=True)
"""


def pip_versions() -> set[str]:
    """Return the versions of pip that this ansible-test may ask for."""
    packages = Path(sysconfig.get_path("purelib"))
    source = packages / "ansible_test" / "_internal" / "python_requirements.py"
    return set(re.findall(r"pip='([\d.]+)'", source.read_text()))


def prepare(home: Path) -> None:
    """Fill the home folder that ansible-test is given."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in pip_versions():
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(BOOTSTRAP)
    settings = [
        f"{name.removeprefix('PIP_').lower().replace('_', '-')} = {value}\n"
        for name, value in sorted(os.environ.items())
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE"
    ]
    config = home / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("".join(["[global]\n", *settings]))


def main(home: Path) -> int:
    """Run the tests for the Python that runs this; other ones would have to be installed."""
    prepare(home)
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [bin_folder / "ansible-test", "sanity", "--python", python, "--color", "no"]
    return subprocess.run(command, cwd=COLLECTION, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
