# SPDX-License-Identifier: Apache-2.0
"""The folder of a registry: what in it is the registry's own, and goes with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from buildset_registry.instance.lifecycle import down
from buildset_registry.instance.paths import InstancePaths


def made(root: Path) -> InstancePaths:
    """Return a folder with what ``up`` makes in it, as far as it matters."""
    paths = InstancePaths(root)
    paths.prepare()
    for file in (paths.config, paths.instance, paths.password, paths.key):
        file.write_text("{}")
    (paths.data / "docker").mkdir()
    return paths


def test_a_registry_that_was_put_back_is_removed_with_all_that_it_has(tmp_path: Path) -> None:
    """A backup has no ``run``: images and keys stayed, as what somebody had there before."""
    paths = made(tmp_path / "root")
    shutil.rmtree(paths.run)
    paths.prepare()
    assert paths.remove() == []
    assert not paths.root.exists()


@pytest.mark.parametrize("purge", [False, True])
def test_a_registry_that_was_put_back_is_ended_before_it_was_ever_started(
    tmp_path: Path, purge: bool
) -> None:
    """``down`` wanted the folder of its lock, which no backup has."""
    paths = made(tmp_path / "root")
    shutil.rmtree(paths.run)
    (paths.root / "notes").write_text("mine")
    report = down(paths, purge=purge)
    assert report.left == (["notes"] if purge else [])
    assert paths.config.exists() is not purge


def test_what_was_beside_it_stays(tmp_path: Path) -> None:
    """Also what was put back beside it."""
    paths = made(tmp_path / "root")
    shutil.rmtree(paths.run)
    (paths.root / "notes").write_text("mine")
    paths.prepare()
    assert paths.remove() == ["notes"]


def test_what_was_there_before_it_stays(tmp_path: Path) -> None:
    """Whatever its name."""
    (tmp_path / "root" / "log").mkdir(parents=True)
    paths = made(tmp_path / "root")
    assert paths.remove() == ["log"]
