# SPDX-License-Identifier: Apache-2.0
"""Run tiers of tests one after another, a line each, and print the totals.

A tier is a nox session. What it prints goes to ``build/logs/TIER.log``; where it fails, the end of
that file is shown. Tests are counted from the reports that pytest leaves in ``build/reports``; a
tier that has none, such as a linter, counts as one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

BUILD = Path(__file__).resolve().parent.parent / "build"
LONGEST_SECONDS = 20 * 60
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


def run_session(tier: str, log: Path) -> int:
    """Run a nox session in a process group of its own, so that nothing of it outlives the limit."""
    command = [sys.executable, "-m", "nox", "--session", tier]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired as error:
            output.write(f"\n{error}\n".encode())
            return -1
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


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


def run(tier: str) -> Result:
    """Run one tier and say how it went."""
    reports = BUILD / "reports" / tier
    shutil.rmtree(reports, ignore_errors=True)
    log = BUILD / "logs" / f"{tier}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{tier:<14}", end="", flush=True)
    started = time.monotonic()
    exit_code = run_session(tier, log)
    result = count(reports, exit_code)
    print(
        f"{'failed' if exit_code else 'ok':<8}{time.monotonic() - started:5.0f} s   {result}",
        flush=True,
    )
    for line in closing_lines(log):
        print(f"  {line}")
    if exit_code:
        lines = log.read_text(errors="replace").splitlines()
        print(*(f"    {line}" for line in lines[-TAIL_LINES:]), sep="\n")
        print(f"  the whole output: {log}", flush=True)
    return result


def main(tiers: list[str]) -> int:
    """Run the tiers named; fail when one of them failed."""
    started = time.monotonic()
    total = Result(0, 0)
    for tier in tiers:
        result = run(tier)
        # The end of a long output is all that some see of it: what failed is said there again.
        total += replace(result, failures=tuple(f"{tier}: {line}" for line in result.failures))
    print(f"\nin {time.monotonic() - started:.0f} s:\n{total}")
    for line in total.failures:
        print(f"  {line}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
