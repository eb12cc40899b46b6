# SPDX-License-Identifier: Apache-2.0
"""The image of ``container/``, built and run by a user without rights, on a base of the tests' own.

No registry has a base image for the tests, so one is made of this machine's Python: the
interpreter, its standard library, the libraries of the system that they load, and busybox.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clients.commands import run
from tests.clients.images import BUSYBOX

REPOSITORY = Path(__file__).resolve().parents[2]
USER = "keeper"
#: The image by the name that compose.yaml and the quadlet have for it.
IMAGE = "localhost/buildset-registry:latest"
BASE = "localhost/python:base"
#: What the Containerfile copies, and itself.
CONTEXT = (
    "container",
    "roles/install_buildset_registry/files",
    "roles/use_buildset_registry/module_utils",
)
#: Where the base looks for wheels, which are shown to it while it builds.
WHEELS = "/wheels"
_APPLETS = ("sh", "mkdir", "chmod", "chown", "echo", "cat", "id", "touch", "rm")
#: Of wheels: they name these, and have none of their own.
_FURTHER = ("libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")
#: Of the standard library; a base image would not have them either.
_LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__", "*.a")
_ASK = """
import json, sys, sysconfig
print(json.dumps([sys.executable, sys.base_prefix, sysconfig.get_path("stdlib")]))
"""
_SETTINGS = {
    "storage.conf": '[storage]\ndriver = "vfs"\n',
    # No network of its own, no control groups, and no more files than the tests may open.
    "containers.conf": '[engine]\nruntime = "runc"\n[containers]\nnetns = "host"\n'
    'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n',
}


@dataclass(frozen=True)
class Operator:
    """A user of the enclosed machine who has no rights, and podman."""

    home: Path

    def command(self, *words: str | Path) -> list[str]:
        """Return the command that runs a program as this user."""
        here = {"HOME": self.home, "XDG_RUNTIME_DIR": self.home / "run", "PATH": os.environ["PATH"]}
        drop = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups"]
        environment = [f"{name}={value}" for name, value in here.items()]
        return [*drop, "env", "--ignore-environment", *environment, *map(str, words)]

    def run(self, *words: str | Path) -> str:
        """Run a program as this user, which has to succeed."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=200, cwd=self.home
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


def make_operator(home: Path) -> Operator:
    """Make the user, with numbers for the users of containers, and where podman finds settings."""
    run("useradd", "--create-home", "--home-dir", home, USER)
    settings = home / ".config" / "containers"
    settings.mkdir(parents=True)
    for name, text in _SETTINGS.items():
        (settings / name).write_text(text)
    (home / "run").mkdir(mode=0o700)
    run("chown", "--recursive", f"{USER}:{USER}", home)
    return Operator(home)


def make_base(operator: Operator, python: Path) -> None:
    """Make the base image; its pip finds wheels in a folder, and asks nobody else."""
    tree = operator.home / "base"
    executable, prefix, library = json.loads(run(python, "-c", _ASK))
    standard = tree / library.lstrip("/")
    shutil.copytree(library, standard, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    bundled = Path("/usr/share/python-wheels")  # where Debian has those of ensurepip
    if bundled.is_dir() and prefix == "/usr":
        shutil.copytree(bundled, tree / str(bundled).lstrip("/"))
    _place(Path(os.path.realpath(executable)), tree, Path(f"{prefix}/bin/python3"))
    for program in (Path(executable), *standard.rglob("*.so")):
        for needed in _libraries(program):
            _place(needed, tree, needed)
    _place(BUSYBOX, tree, Path("/bin/busybox"))
    for applet in _APPLETS:
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "tmp").mkdir(mode=0o1777)
    (tree / "etc").mkdir()
    (tree / "etc" / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {WHEELS}\n")
    run("chown", "--recursive", f"{USER}:{USER}", tree)
    container = operator.run("buildah", "from", "scratch").strip()
    operator.run("buildah", "copy", "--quiet", container, tree, "/")
    operator.run("buildah", "commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(tree)


def build(operator: Operator, wheels: Path) -> None:
    """Build the image as the documentation says, on that base and with these wheels."""
    # Others than their owner may not look into the checkout, nor into the cache.
    context = operator.home / "context"
    for folder in CONTEXT:
        shutil.copytree(REPOSITORY / folder, context / folder, symlinks=True)
    shutil.copytree(wheels, operator.home / "wheels")
    run("chown", "--recursive", f"{USER}:{USER}", context, operator.home / "wheels")
    words: list[str | Path] = ["--isolation", "chroot", "--format", "docker", "--tag", IMAGE]
    words += ["--volume", f"{operator.home / 'wheels'}:{WHEELS}:ro", "--build-arg"]
    words += [f"PYTHON={BASE}", "--file", context / "container" / "Containerfile", context]
    operator.run("buildah", "build", "--quiet", *words)
    shutil.rmtree(context)


def _place(source: Path, tree: Path, target: Path) -> None:
    """Copy a file, where it is not there yet."""
    path = tree / str(target).lstrip("/")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)


def _libraries(program: Path) -> Iterator[Path]:
    """Yield the libraries that a program loads, the loader itself, and those that wheels want."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    for found in re.finditer(r"(/\S+) \(0x", listed):
        yield Path(found[1])
        if "/libc.so" in found[1]:
            beside = (Path(found[1]).with_name(name) for name in _FURTHER)
            yield from (path for path in beside if path.exists())
