# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark in small: what it measures is worth nothing, that it measures is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compare import PAIRS, Change, changes
from bench.copying import CASES, CLIENTS
from bench.figures import Figure, Figures
from bench.measures import MEASURES

PEERS = ("ours", "distribution-2.8")
TARGETS = {name: case.targets.values() for name, case in CASES.items()}
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
def test_copies_are_timed_beside_skopeo_s_and_crane_s(tmp_path: Path, case: str) -> None:
    """In one run, near and far; a round trip takes as long as it is said to."""
    words = [sys.executable, "-m", "bench", "copies", case, "--rounds", "1", "--scale", "0.01"]
    done = subprocess.run([*words, "--folder", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f" {target:g}: " in done.stdout.replace("x", " ") for target in TARGETS[case])
    seconds = json.loads((tmp_path / f"copies-{case}.json").read_text())["seconds"]
    assert list(seconds) == list(CLIENTS)
    # To connect, to find the manifest, to ask for blobs, to push them, to push the manifest.
    least = CASES[case].round_trip * 6
    assert all(least < one[0] for one in seconds.values())


@pytest.mark.timeout(300)
def test_a_revision_is_measured_beside_this_checkout(tmp_path: Path) -> None:
    """Its registry has figures of its own, and the two are in one list."""
    measures = ("start", "manifest-get", "push-whole")
    words = [sys.executable, "-m", "bench", *SMALL, "--before", "HEAD", "--peers", "ours"]
    words += ["--measures", ",".join(measures), "--folder", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert all(rows[name][peer]["0"]["value"] for name in measures for peer in ("ours", "before"))
    listed = done.stdout.partition("Before, now, spread")[2]
    assert all(measure.title in listed for measure in MEASURES if measure.name in measures)
    module = next(tmp_path.glob("revision/venv/lib/*/site-packages/buildset_registry"))
    assert (module / "registry.py").is_file()


@pytest.mark.parametrize(
    ("before", "now", "spread", "more_is_better", "worse"),
    [
        (100, 90, 5, True, True),
        (100, 90, 10, True, False),
        (100, 120, 5, True, False),
        (100, 110, 5, False, True),
        (100, 110, 10, False, False),
        (100, 80, 5, False, False),
    ],
)
def test_a_measure_is_slower_past_its_spread(
    before: float, now: float, spread: float, more_is_better: bool, worse: bool
) -> None:
    """Less is worse where more is better, and the other way round."""
    assert Change(before, now, spread, more_is_better).worse is worse


def test_what_a_ledger_costs_is_told_round_by_round(tmp_path: Path) -> None:
    """A round in which the machine was slow makes both slower, and no cost of the ledger."""
    figures = Figures(tmp_path / "figures.json", {})
    for turn, (without, with_it) in enumerate([(100.0, 98.0), (50.0, 49.0), (200.0, 196.0)]):
        figures.add("manifest-put", "ours", turn, Figure(without, cpu=1.0))
        figures.add("manifest-put", "ours-ledger", turn, Figure(with_it, cpu=1.02))
    found = dict(changes(figures, PAIRS[1]))
    costs = {title: round(one.cost or 0, 3) for title, one in found.items()}
    assert costs == {"manifest PUT": 0.02, "manifest PUT: processor time": 0.02}
