# SPDX-License-Identifier: Apache-2.0
"""The tiers: one list of them, what they become of, and the lines that tell how they went."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nox.registry import get as nox_sessions

import noxfile
from tools import schedule, tiers
from tools.schedule import Ended, Job

TOP = Path(__file__).resolve().parents[2]
REPORT = """\
<testsuites><testsuite tests="4" failures="1" errors="0" skipped="1">
<testcase classname="tests.unit" name="test_one"/>
<testcase classname="tests.unit" name="test_other">
<failure message="assert 1 == 2 more"/></testcase>
</testsuite></testsuites>
"""
CLOSING = "==== 1 failed, 2 passed, 1 skipped in 0.10s ===="


def test_the_table_for_contributors_lists_the_tiers_in_their_order() -> None:
    """noxfile.py is the only list; a page that differs is wrong."""
    table = (TOP / "CONTRIBUTING.rst").read_text().partition(".. list-table::")[2]
    rows = re.findall(r"^   \* - (``.*)$", table, re.MULTILINE)
    assert [name for row in rows for name in re.findall("``(.+?)``", row)] == list(noxfile.TIERS)


def test_make_names_no_session_that_is_not_there() -> None:
    """Its targets run some tiers; ``make test`` runs all, and has no list of its own."""
    text = (TOP / "Makefile").read_text()
    named = {word for line in re.findall(r"\$\(CHECK\) (.*)", text) for word in line.split()}
    assert named - {"$(TIERS)"} <= nox_sessions().keys()
    assert re.search(r"^TIERS =$", text, re.MULTILINE)


def test_every_tier_is_a_session() -> None:
    """And what it comes after stands before it."""
    assert noxfile.TIERS.keys() <= nox_sessions().keys()
    order = list(noxfile.TIERS)
    for name, tier in noxfile.TIERS.items():
        assert all(order.index(other) < order.index(name) for other in tier.after)


def test_the_tools_of_the_tiers_are_those_that_can_be_built() -> None:
    """None is built that no tier uses."""
    usage = subprocess.run([TOP / "tools" / "go-tools"], stderr=subprocess.PIPE, text=True).stderr
    known = set(usage.split()[-1].removesuffix("...").split("|"))
    assert {tool for tier in noxfile.TIERS.values() for tool in tier.tools} == known


def test_tools_are_built_from_the_start_on_and_waited_for_one_by_one() -> None:
    """A tier waits for the tools that it runs, not for others."""
    jobs = {job.name: job for job in tiers.plan(["importer", "interop", "clients"])}
    assert list(jobs)[:2] == ["go-registry", "go-crane"]
    assert all(job.build for name, job in jobs.items() if name.startswith("go-"))
    assert jobs["interop"].needs == ("go-registry", "go-crane")
    assert "go-dockerd" in jobs["clients"].needs
    assert jobs["importer"].needs == ("collection",)


def test_a_session_that_is_no_tier_may_be_named() -> None:
    """``make soak`` runs one."""
    (job,) = tiers.plan(["soak"])
    assert job.command[-2:] == ("--session", "soak")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run main where each tier ends at once, with the exit code that a test gives it."""

    def go(names: str, **exit_codes: int) -> tuple[int, str]:
        def ends(jobs: list[Job], *_: object) -> Iterator[Ended]:
            for job in jobs:
                code = exit_codes.get(job.name, 0)
                job.log.write_text(f"what {job.name} says\n{CLOSING if code else ''}\n")
                if job.name == "tests":
                    report = tmp_path / "reports" / "tests" / "pytest.xml"
                    report.parent.mkdir(parents=True)
                    report.write_text(REPORT)
                yield Ended(job, code, 12.3)

        monkeypatch.setattr(tiers, "BUILD", tmp_path)
        monkeypatch.setattr(schedule, "run", ends)
        code = tiers.main(names.split())
        return code, capsys.readouterr().out

    return go


def test_tiers_that_pass(run: Callable[..., tuple[int, str]]) -> None:
    """A line for each, then the totals alone on a line, which CI reads."""
    code, output = run("lint types")
    assert code == 0
    assert "lint          ok         12 s   1 passed, 0 failed\n" in output
    assert output.endswith(" s:\n2 passed, 0 failed\n")


def test_a_tier_that_fails(run: Callable[..., tuple[int, str]]) -> None:
    """What pytest closed with, the end of its output, and at the end what failed and why."""
    code, output = run("lint tests", tests=1)
    assert code == 1
    assert f"tests         failed     12 s   2 passed, 1 failed, 1 skipped\n  {CLOSING}\n" in output
    assert "    what tests says\n" in output
    end = "\n3 passed, 1 failed, 1 skipped\n  tests: tests.unit.test_other: assert 1 == 2 more\n"
    assert output.endswith(end)


def test_a_tool_that_cannot_be_built_is_no_test(run: Callable[..., tuple[int, str]]) -> None:
    """The tier that needs it tries again, and fails with the reason."""
    code, output = run("interop", **{"go-registry": 1})
    assert code == 0
    assert "go-registry: not built" in output
    assert output.endswith("\n1 passed, 0 failed\n")
