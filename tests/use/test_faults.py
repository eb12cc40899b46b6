# SPDX-License-Identifier: Apache-2.0
"""Undo from wherever a run has ended: a fault at each of its steps, or its end there.

A step is a call of the system that changes something. After the fault, ``absent`` makes all of it
what it was: content, mode, owner, attributes, links and folders.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.errors import ClientError

from tests.use.places import Place, make_setup

#: It has files of each kind: of others and of the role, with credentials and without, of users too.
ORDER = main.Order(clients=["docker"])
OTHER = {"host": "198.51.100.99", "push_host": "198.51.100.99"}
#: The calls that are steps.
STEPS: list[tuple[Any, str]] = [(tempfile, "mkstemp")]
STEPS += [(os, name) for name in ("mkdir", "replace", "unlink", "fsync", "fchmod")]
#: A folder that cannot be removed is not an error, but a run may be killed there.
REMOVED: list[tuple[Any, str]] = [(os, "rmdir")]
KILLED = 9

Found = dict[str, tuple[Any, ...]]


def everything(root: Path) -> Found:
    """Return all that there is below a folder, with all that is to be as it was."""
    return {str(path.relative_to(root)): described(path) for path in sorted(root.rglob("*"))}


def described(path: Path) -> tuple[Any, ...]:
    """Tell what a file, a folder or a link is."""
    status = path.lstat()
    if path.is_symlink():
        return "link", os.readlink(path)  # noqa: PTH115  # as it is written
    content = path.read_bytes() if path.is_file() else b""
    names = [(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))]
    return content, status.st_mode, status.st_uid, status.st_gid, names, status.st_nlink


def lived_in(root: Path) -> Place:
    """Make a node with files of its user's, links and modes among them."""
    place = Place.make(root)
    place.write("/etc/docker/daemon.json", '{"bip": "192.0.2.1/24"}', 0o640)
    hosts = 'server = "https://m"\n[host."https://m"]\n'
    place.write("/etc/docker/certs.d/docker.io/hosts.toml", hosts)
    place.write("/root/dotfiles/config.json", '{"psFormat": "x"}\n', 0o644)
    (root / "root/.docker").mkdir(mode=0o700)
    (root / "root/.docker/config.json").symlink_to("../dotfiles/config.json")
    (root / "root/.config").symlink_to("dotfiles/not/yet")
    return place


def use(place: Place, **facts: str) -> None:
    """Configure the client for one registry."""
    setup = make_setup(**facts)
    main.use(ORDER, replace(setup, namespaces=setup.namespaces[:1]), place.node)


class Fault:
    """A fault at one of the steps; without one, they are counted."""

    def __init__(self, at: int, act: Callable[[], None], steps: list[tuple[Any, str]]) -> None:
        self.at, self.act, self.steps = at, act, steps
        self.count = 0

    def __enter__(self) -> Fault:
        """Have the calls counted."""
        self.patch = pytest.MonkeyPatch()
        for module, name in self.steps:
            self.patch.setattr(module, name, self._counted(getattr(module, name)))
        return self

    def __exit__(self, *_error: object) -> None:
        """Have them be what they were."""
        self.patch.undo()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.act()
            return call(*words, **options)

        return counted


def full_disk() -> None:
    """Fail as a call does that finds no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    """End the process where it is."""
    os._exit(KILLED)


def failing(work: Callable[[], Any], at: int) -> bool:
    """Run it with a fault at a step; tell whether it got that far."""
    with Fault(at, full_disk, STEPS) as fault:
        try:
            work()
        except ClientError as error:
            assert "\n" not in str(error)
            told = str(error).replace("zuul-jobs.buildset-registry:", "")
            assert ".buildset-registry:" not in told, "the name of a temporary file"
    return fault.count >= at


def killed(work: Callable[[], Any], at: int) -> bool:
    """Run it in a process that is killed at a step; tell whether it was."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with Fault(at, kill, STEPS + REMOVED):
                work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


WAYS = [failing, killed]


def of_user(root: Path) -> Place:
    """Make a node whose user has nothing in his home, so that all folders are of the role."""
    return Place.make(root, is_root=False)


def each_step(
    tmp_path: Path,
    way: Callable[..., bool],
    runs: list[dict[str, str]],
    work: str,
    make: Callable[[Path], Place] = lived_in,
) -> int:
    """Have a run end at each step, after other runs, and undo it; return how many there are."""
    at, far = 0, True
    while far:
        at += 1
        root = tmp_path / str(at)
        place = make(root)
        before = everything(root)
        for facts in runs:
            use(place, **facts)
        far = way(place.restore if work == "absent" else partial(use, place, **OTHER), at)
        place.restore()
        assert everything(root) == before, f"step {at}"
        shutil.rmtree(root)
    return at


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("runs", "work"),
    [([], "present"), ([{}], "present"), ([{}, OTHER], "absent")],
    ids=["first run", "another registry", "undo"],
)
def test_undo_makes_all_what_it_was_from_each_step(
    tmp_path: Path, way: Callable[..., bool], runs: list[dict[str, str]], work: str
) -> None:
    """Whether the disk is full there or the process is killed."""
    assert each_step(tmp_path, way, runs, work) > 30


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("runs", "work"), [([], "present"), ([{}], "absent")])
def test_an_ordinary_user_s_home_is_what_it_was_from_each_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[..., bool],
    runs: list[dict[str, str]],
    work: str,
) -> None:
    """The folders of what is remembered, too, which nobody else has made."""
    monkeypatch.setattr(sys.modules[__name__], "ORDER", main.Order(clients=["buildx"]))
    assert each_step(tmp_path, way, runs, work, of_user) > 10
