# SPDX-License-Identifier: Apache-2.0
"""A host's control groups, below one that the machine has for the lab: engines make theirs there.

They are the one thing of a lab that the kernel does not end with its processes: `remove` does.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.command import LabError, run

PLACE = Path("/sys/fs/cgroup")
NEW_NAMESPACE = 0x02000000  # CLONE_NEWCGROUP of sched.h
GENERAL_OPTIONS = {"rw", "ro", "relatime", "nosuid", "nodev", "noexec", "nsdelegate", "xattr"}
END_SECONDS = 10


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy: one of version 1 with its controllers, or the one of version 2."""

    kind: str
    mounted: Path
    options: str

    def mount_again(self, root: Path) -> None:
        """Mount it where a host sees it; what the host sees begins at its own group."""
        target = root / self.mounted.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        options = ["-o", self.options] if self.options else []
        run("mount", "-t", self.kind, *options, f"lab-{self.kind}", str(target))


def hierarchies() -> list[Hierarchy]:
    """Find what the machine has mounted."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and PLACE in (Path(mounted), *Path(mounted).parents):
            chosen = [word for word in options.split(",") if word not in GENERAL_OPTIONS]
            named = ["none", *chosen] if chosen and chosen[0].startswith("name=") else chosen
            found.append(
                Hierarchy(kind, Path(mounted), "" if kind == "cgroup2" else ",".join(named))
            )
    return found


def join(group: str) -> None:
    """Put this process into a group of every hierarchy, and make it all that it sees."""
    for hierarchy in hierarchies():
        folder = hierarchy.mounted
        for name in Path(group).parts:
            folder /= name
            folder.mkdir(exist_ok=True)
            _inherit_cpus(folder)
        (folder / "cgroup.procs").write_text("0")
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE) != 0:
        raise LabError(f"no namespace for control groups: {os.strerror(ctypes.get_errno())}")


def _inherit_cpus(folder: Path) -> None:
    """Allow what the parent does: in version 1 a new group may use no CPU at all."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists() and (folder / "tasks").exists():
            (folder / name).write_text((folder.parent / name).read_text())


def mount(root: Path) -> None:
    """Mount the hierarchies below a host's root."""
    found = hierarchies()
    if any(hierarchy.mounted != PLACE for hierarchy in found):
        run(
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "mode=755",
            "lab-tmpfs",
            str(root / PLACE.relative_to("/")),
        )
    for hierarchy in found:
        hierarchy.mount_again(root)


def remove(group: str) -> None:
    """Remove a group and all below it, once their last processes have gone."""
    deadline = time.monotonic() + END_SECONDS
    for hierarchy in hierarchies():
        top = hierarchy.mounted / group
        while top.exists():
            try:
                _remove_tree(top)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"the control group {top} stays: {error.strerror}") from error
                time.sleep(0.01)


def _remove_tree(folder: Path) -> None:
    for below in folder.iterdir():
        if below.is_dir():
            _remove_tree(below)
    folder.rmdir()
