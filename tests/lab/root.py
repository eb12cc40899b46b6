# SPDX-License-Identifier: Apache-2.0
"""The file system that a host sees: the machine's, with every change kept in the host's memory.

- `/`: an overlay, the machine's root below, a tmpfs above
- `/dev`, `/proc`, `/sys`: the host's own
- `/tmp`, `/run`, `/root`, `/home`: empty, and so is what the machine keeps of its container engines
- what a registry, or a client of one, has left on the machine: not there
- folders of the machine that are shown, to be read only, whatever they are called there
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab.command import LabError, run

DEVICES = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun"]
#: Engines put overlays of their own on these, for which an overlay cannot be the upper layer.
ENGINES = ["/var/lib/containers", "/var/lib/containerd", "/var/lib/docker"]
EMPTY = ["/run", "/root", "/home", *ENGINES]
#: A registry that somebody tries on the machine would be found by the roles, and its unit started.
LEFT = [
    "etc/containers/registries.conf.d/*buildset-registry*",
    "etc/systemd/system/**/buildset-registry*",
    "usr/local/share/ca-certificates/buildset-registry*",
    "var/lib/buildset-registry*",
    "var/lib/intermediate-registry*",
]
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def mount(kind: str, target: Path, options: str = "") -> None:
    """Mount a new file system."""
    target.mkdir(parents=True, exist_ok=True)
    chosen = ["-o", options] if options else []
    run("mount", "-t", kind, *chosen, f"lab-{kind}", str(target))


def make(hidden: Iterable[Path], shown: Mapping[str, str]) -> Path:
    """Build the root in a new mount namespace; hidden folders of the machine are empty in it, and
    others are shown at paths of the host."""
    # Any folder that every machine has will do: the mounts over it are seen in this namespace only.
    memory = Path("/mnt")
    mount("tmpfs", memory, "mode=755")
    root, upper, work = memory / "root", memory / "upper", memory / "work"
    for folder in (root, upper, work):
        folder.mkdir()
    mount("overlay", root, f"lowerdir=/,upperdir={upper},workdir={work}")
    _forget(root)
    for empty in [*map(Path, EMPTY), *hidden]:
        mount("tmpfs", root / empty.relative_to("/"), "mode=755")
    mount("tmpfs", root / "tmp", "mode=1777")
    for target, source in shown.items():
        _show(Path(source), root / target.lstrip("/"))
    mount("proc", root / "proc")
    mount("sysfs", root / "sys", "ro")
    _make_devices(root / "dev")
    return root


def _forget(root: Path) -> None:
    """Remove from the overlay, and from nowhere else, what a registry has left."""
    if not root.is_mount():
        raise LabError(f"{root} is no overlay")
    for path in [found for pattern in LEFT for found in root.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _show(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", str(folder), str(target))
    run("mount", "-o", "remount,bind,ro", str(target))


def _make_devices(folder: Path) -> None:
    mount("tmpfs", folder, "mode=755")
    for name in DEVICES:
        device = Path("/dev", name)
        if device.exists():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
            run("mount", "--bind", str(device), str(folder / name))
    mount("devpts", folder / "pts", "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", folder / "shm", "mode=1777")
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)


def enter(root: Path) -> None:
    """Make it the root of this namespace, and let go of the machine's."""
    old = root / "mnt"
    run("pivot_root", str(root), str(old))
    run("umount", "--lazy", "/mnt")
    # As systemd has it, and as rootless podman wants it.
    run("mount", "--make-rshared", "/")
