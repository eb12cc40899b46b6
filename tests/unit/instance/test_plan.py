# SPDX-License-Identifier: Apache-2.0
"""The plan of ``up``: what is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.instance.options import Options
from buildset_registry.instance.paths import InstancePaths
from buildset_registry.instance.plan import make_plan

HUB = {"name": "docker.io", "url": "https://registry-1.docker.io"}


@pytest.mark.parametrize("upstreams", [[], [HUB]])
def test_a_proxy_that_stands_for_nobody_is_refused(
    tmp_path: Path, upstreams: list[dict[str, str]]
) -> None:
    """No certificate was made for it, and the server said that it cannot read one."""
    options = Options(host="registry.example.com", proxy_port=5002, upstreams=upstreams)
    with pytest.raises(ConfigError, match=r"stands for upstreams other than docker\.io"):
        make_plan(InstancePaths(tmp_path / "root"), options)
    quay = {"name": "quay.io", "url": "https://quay.io"}
    options = Options(host="registry.example.com", proxy_port=5002, upstreams=[*upstreams, quay])
    assert make_plan(InstancePaths(tmp_path / "root"), options).proxy_names == ["quay.io"]


def test_a_configuration_that_is_empty_is_not_made_anew(tmp_path: Path) -> None:
    """A power cut may leave it so, and what was changed by hand would be lost without a word."""
    paths = InstancePaths(tmp_path / "root")
    paths.root.mkdir()
    paths.config.touch()
    with pytest.raises(ConfigError, match=r"config\.yaml is empty; put it back, or remove it"):
        make_plan(paths, Options(host="registry.example.com"))


@pytest.mark.parametrize("text", ["", "{"])
def test_what_is_left_of_a_record_is_told(tmp_path: Path, text: str) -> None:
    """An empty one counted as none: the name of the host was lost, and the certificate for it."""
    paths = InstancePaths(tmp_path / "root")
    paths.root.mkdir()
    paths.instance.write_text(text)
    with pytest.raises(ConfigError, match=r"instance\.json is damaged; put it back, or remove it"):
        make_plan(paths, Options())


def test_workers_without_a_number_are_one(tmp_path: Path) -> None:
    """As where its line was emptied: the ledger was taken for one of several processes."""
    paths = InstancePaths(tmp_path / "root")
    paths.root.mkdir()
    paths.config.write_text("workers:\n")
    plan = make_plan(paths, Options(host="registry.example.com"))
    assert plan.config.workers == 1
    assert plan.tree["ledger"] == {"folder": "ledger"}
