# SPDX-License-Identifier: Apache-2.0
"""Run tiers of tests, side by side where they allow it, and print the totals.

A tier is a nox session; noxfile.py says what each needs. What it prints goes to
``build/logs/TIER.log``; where it fails, the end of that file is shown. Tests are counted from the
reports that pytest leaves in ``build/reports``; a tier that has none, such as a linter, counts as
one. The tools written in Go are built from the start on, while tiers run that need none of them.

usage: python -m tools.tiers [--lanes NUMBER] [TIER...]    # all that there are where none is named
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

from noxfile import TIERS, Tier
from tools import schedule
from tools.schedule import Ended, Job

BUILD = Path(__file__).resolve().parent.parent / "build"
#: At the lowest priority a build may have to wait for all tiers that need none.
BUILD_SECONDS = 2 * schedule.LIMIT_SECONDS
#: One more than there are cores, up to three: a tier waits half of its time for others.
LANES = min(3, len(os.sched_getaffinity(0)) + 1)
TAIL_LINES = 60
WHY_LENGTH = 200


@dataclass(frozen=True)
class Result:
    """What a tier came to."""

    passed: int
    failed: int
    skipped: int = 0
    failures: tuple[str, ...] = ()

    def __add__(self, other: Result) -> Result:
        return Result(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.failures + other.failures,
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def plan(names: Iterable[str]) -> list[Job]:
    """Return the jobs that tiers consist of: the tools that they need, then the tiers."""
    tiers = {name: TIERS.get(name, Tier()) for name in names}
    tools = dict.fromkeys(tool for tier in tiers.values() for tool in tier.tools)
    builds = [
        Job(
            name=f"go-{tool}",
            command=("tools/go-tools", tool),
            log=BUILD / "logs" / f"go-{tool}.log",
            build=True,
            limit=BUILD_SECONDS,
        )
        for tool in tools
    ]
    sessions = [
        Job(
            name=name,
            command=(sys.executable, "-m", "nox", "--session", name),
            log=BUILD / "logs" / f"{name}.log",
            needs=(*tier.after, *(f"go-{tool}" for tool in tier.tools)),
            alone=tier.alone,
        )
        for name, tier in tiers.items()
    ]
    return builds + sessions


def count(reports: Path, exit_code: int) -> Result:
    """Add pytest's reports up; a tier that failed has at least one failure."""
    total = Result(0, 0)
    for report in sorted(reports.glob("*.xml")):
        for suite in ElementTree.parse(report).iter("testsuite"):
            number = {
                key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")
            }
            failed = number["failures"] + number["errors"]
            passed = number["tests"] - failed - number["skipped"]
            total += Result(passed, failed, number["skipped"], tuple(failures(suite)))
    if exit_code == 0:
        return total if total.passed else Result(1, 0)
    return total if total.failed else total + Result(0, 1, failures=("what stands above",))


def failures(suite: ElementTree.Element) -> Iterator[str]:
    """Name the tests of a suite that failed, with the first line of why."""
    for case in suite.iter("testcase"):
        for fault in (*case.iter("failure"), *case.iter("error")):
            why = (fault.get("message") or "").partition("\n")[0][:WHY_LENGTH]
            yield f"{case.get('classname')}.{case.get('name')}: {why}"


def closing_lines(log: Path) -> list[str]:
    """Return the lines with which pytest closed its runs."""
    return re.findall(
        r"^=+ (?:.*\d (?:passed|failed|error).*) =+$", log.read_text(errors="replace"), re.M
    )


def report(ended: Ended) -> Result:
    """Print how a tier went, and return it."""
    name, log = ended.job.name, ended.job.log
    result = count(BUILD / "reports" / name, ended.exit_code)
    word = "failed" if ended.exit_code else "ok"
    say(f"{name:<14}{word:<8}{ended.seconds:5.0f} s   {result}")
    for line in closing_lines(log):
        print(f"  {line}")
    if ended.exit_code:
        lines = log.read_text(errors="replace").splitlines()
        print(*(f"    {line}" for line in lines[-TAIL_LINES:]), sep="\n")
        print(f"  the whole output: {log}")
    sys.stdout.flush()
    return result


def report_build(ended: Ended) -> None:
    """Print that a tool has been built; where that failed, the tiers that need it say why."""
    text = ended.job.log.read_text(errors="replace")
    if ended.exit_code:
        say(f"{ended.job.name}: not built, see {ended.job.log}")
    elif "built now" in text:
        say(f"{ended.job.name}: built in {ended.seconds:.0f} s")


def say(line: str) -> None:
    """Print a line, in place of the one that tells what runs."""
    print(f"\r\033[K{line}" if sys.stdout.isatty() else line, flush=True)


def show(names: list[str]) -> None:
    """Tell who watches what runs."""
    if sys.stdout.isatty():
        print(f"\r\033[K... {', '.join(names)}", end="", flush=True)


def stop(number: int, frame: FrameType | None) -> None:
    """End as a program does that a signal has ended, and all jobs before."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    print(f"\nended by {signal.Signals(number).name}", flush=True)
    sys.exit(128 + number)


def run(names: list[str], lanes: int) -> Result:
    """Run tiers, a line each, and return the total."""
    total = Result(0, 0)
    (BUILD / "logs").mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.rmtree(BUILD / "reports" / name, ignore_errors=True)
    with closing(schedule.run(plan(names), lanes, show)) as jobs:
        for ended in jobs:
            if ended.job.build:
                report_build(ended)
                continue
            result = report(ended)
            failed = tuple(f"{ended.job.name}: {line}" for line in result.failures)
            total += replace(result, failures=failed)
    return total


def main(words: list[str]) -> int:
    """Run the tiers named; fail when one of them failed."""
    parser = argparse.ArgumentParser(description="Run tiers of tests.")
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=" ".join(TIERS))
    parser.add_argument("--lanes", type=int, default=LANES, help="how many at once (%(default)s)")
    options = parser.parse_args(words)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    started = time.monotonic()
    total = run(options.tiers or list(TIERS), options.lanes)
    # The end of a long output is all that some see of it: what failed is said there again.
    print(f"\nin {time.monotonic() - started:.0f} s:\n{total}")
    for line in total.failures:
        print(f"  {line}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
