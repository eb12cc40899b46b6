# SPDX-License-Identifier: Apache-2.0
"""Run ``ansible-test sanity`` on the collection that ``tools/stage.py`` has installed.

ansible-test makes virtual environments of its own, in the home folder, and starts each by a script
that it downloads from a host that is not a package index. A file in its cache, which it uses
instead, takes Python's own ``ensurepip``. It also clears the environment, so the settings of pip
that stand there are handed on as a file. Where it cannot run a test it only warns; here that fails.
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

#: Which locale it takes, and the heading under which it repeats its warnings at the end.
HARMLESS = re.compile(r"locale|Reviewing previous")

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


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run ansible-test, showing what it prints; a warning of a test left out is a failure."""
    process = subprocess.Popen(
        command,
        cwd=COLLECTION,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    left_out = False
    for line in process.stdout or ():
        print(line, end="", flush=True)
        left_out |= line.startswith("WARNING:") and not HARMLESS.search(line)
    return process.wait() or int(left_out)


def main(home: Path) -> int:
    """Run the tests for the Python that runs this; other ones would have to be installed."""
    prepare(home)
    # Inside this repository ansible-test would see a folder that git ignores, and test nothing.
    subprocess.run(["git", "init", "--quiet"], cwd=COLLECTION, check=True)
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(bin_folder / "ansible-test"), "sanity", "--python", python, "--color", "no"]
    return run(command, environment)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
