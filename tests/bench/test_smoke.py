# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark in small: what it measures is worth nothing, that it measures is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measures import MEASURES

PEERS = ("ours", "distribution-2.8")
SMALL = ["--size", "2MiB", "--rounds", "1", "--seconds", "1", "--tags", "20"]
SMALL += ["--repositories", "3", "--crowd", "3"]


@pytest.mark.timeout(600)
def test_every_measure_yields_a_figure(tmp_path: Path) -> None:
    """Each measure has a figure of this registry and of distribution, and no byte came twice."""
    words = [sys.executable, "-m", "bench", *SMALL, "--peers", ",".join(PEERS)]
    done = subprocess.run([*words, "--folder", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    missing = [
        (measure.name, peer)
        for measure in MEASURES
        for peer in PEERS
        if not rows.get(measure.name, {}).get(peer, {}).get("0", {}).get("value")
    ]
    assert not missing
    assert rows["cold-50"]["ours"]["0"]["more"]["upstream_ratio"] == 1
    assert "<svg" in (tmp_path / "figures.svg").read_text()
    for measure in MEASURES:
        assert measure.title in done.stdout
