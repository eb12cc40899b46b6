# SPDX-License-Identifier: Apache-2.0
"""Jobs side by side: what starts when, and that nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.schedule import Job, choose

TOP = Path(__file__).resolve().parents[2]
#: Runs jobs, each `NAME,OPTION=VALUE... COMMAND`, and prints a line for each that has ended.
PROGRAM = """
import signal, sys
from contextlib import closing
from pathlib import Path
from tools import schedule
schedule.GRACE_SECONDS = 3
# A shell starts what it runs in the background deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
jobs = [schedule.Job(**job) for job in eval(sys.argv[2], {"Path": Path, "PosixPath": Path})]
with closing(schedule.run(jobs, int(sys.argv[1]), lambda names: None)) as ends:
    for ended in ends:
        print(ended.job.name, ended.exit_code, flush=True)
"""

#: Leaves a process in a session of its own, with its number in a file.
DAEMON = "setsid sh -c 'echo $$ >number; exec sleep 500' & until [ -s number ]; do sleep 0.1; done"
#: Waits until a command succeeds, for half a minute at least.
UNTIL = "for i in $(seq 300); do {{ {0}; }} && break; sleep 0.1; done"


def job(name: str, needs: tuple[str, ...] = (), alone: bool = False, build: bool = False) -> Job:
    """Describe a job that nobody starts."""
    return Job(name, ("true",), Path(os.devnull), needs, alone, build)


LINT, TYPES = job("lint"), job("types")
CRANE, HELM = job("crane", build=True), job("helm", build=True)
CLIENTS = job("clients", needs=("crane",))
BENCH = job("bench", alone=True)


@pytest.mark.parametrize(
    ("waiting", "running", "next_one"),
    [
        ([LINT, TYPES], [], LINT),
        ([TYPES], [LINT], TYPES),
        ([job("third")], [LINT, TYPES], None),
        ([CLIENTS, LINT], [CRANE], LINT),
        ([CLIENTS], [HELM], CLIENTS),
        ([CRANE], [LINT, TYPES], CRANE),
        ([HELM, LINT], [CRANE], LINT),
        ([BENCH], [], BENCH),
        ([BENCH, TYPES], [LINT], TYPES),
        ([BENCH], [CRANE], None),
        ([LINT, CRANE], [BENCH], None),
        ([job("one", needs=("another",)), job("another", needs=("one",))], [], None),
    ],
    ids=[
        "the first that is listed",
        "a second lane",
        "no third lane",
        "not before what it needs has ended",
        "beside a build that it does not need",
        "a build takes no lane",
        "one build at a time",
        "alone where nothing runs",
        "others do not wait for one that is alone",
        "alone means without builds too",
        "nothing starts beside one that is alone",
        "a circle never starts",
    ],
)
def test_the_job_that_starts_next(waiting: list[Job], running: list[Job], next_one: Job) -> None:
    """By what runs, what a job needs, and what it can run beside."""
    assert choose(waiting, running, lanes=2) == next_one


class Jobs:
    """Shell commands in a folder of their own, run by the scheduler in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.described: list[dict[str, object]] = []

    def add(self, name: str, script: str, **options: object) -> None:
        """Describe a job."""
        command = ("sh", "-c", script)
        log = self.folder / f"{name}.log"
        self.described.append({"name": name, "command": command, "log": log, **options})

    def start(self, lanes: int = 2) -> subprocess.Popen[str]:
        """Start to run the jobs."""
        command = [sys.executable, "-c", PROGRAM, str(lanes), repr(self.described)]
        environment = os.environ | {"PYTHONPATH": str(TOP)}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True
        )

    def run(self, lanes: int = 2) -> dict[str, int]:
        """Run the jobs, and return how each ended."""
        with self.start(lanes) as scheduler:
            output, _ = scheduler.communicate(timeout=60)
        assert scheduler.returncode == 0
        return {line.split()[0]: int(line.split()[1]) for line in output.splitlines()}

    def log(self, name: str) -> str:
        """Return what a job has printed."""
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """No job yet."""
    return Jobs(tmp_path)


def wait_for(path: Path) -> None:
    """Wait until a job has made a file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sleeping(folder: Path) -> Iterator[int]:
    """Yield the processes that work in a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == folder:
                yield int(process.name)
        except OSError:
            continue


def test_two_jobs_run_at_the_same_time(jobs: Jobs) -> None:
    """Each ends only when the other has begun."""
    meet = "touch {0}; for i in $(seq 300); do [ -e {1} ] && exit 0; sleep 0.1; done; exit 1"
    jobs.add("one", meet.format("a", "b"))
    jobs.add("other", meet.format("b", "a"))
    assert jobs.run() == {"one": 0, "other": 0}


def test_one_that_is_alone_sees_nothing_run(jobs: Jobs) -> None:
    """Neither another job nor a build, in whatever order they are listed."""
    jobs.add("alone", "ls running.* 2>/dev/null && exit 1; exit 0", alone=True)
    for name, build in (("a", False), ("b", False), ("c", True)):
        jobs.add(name, f"touch running.{name}; sleep 0.3; rm running.{name}", build=build)
    assert jobs.run() == {"alone": 0, "a": 0, "b": 0, "c": 0}


def test_a_job_starts_though_what_it_needs_has_failed(jobs: Jobs) -> None:
    """It finds out itself what that comes to."""
    jobs.add("first", "exit 3")
    jobs.add("second", "exit 0", needs=("first",))
    assert jobs.run() == {"first": 3, "second": 0}


def test_jobs_that_need_each_other_are_refused(jobs: Jobs) -> None:
    """Instead of waiting for ever."""
    jobs.add("one", "true", needs=("other",))
    jobs.add("other", "true", needs=("one",))
    with jobs.start() as scheduler:
        assert scheduler.wait(60) != 0


def test_a_build_has_the_lowest_priority(jobs: Jobs) -> None:
    """The tiers are not slower for it, also where Linux groups processes by session."""
    show = "nice; cat /proc/self/autogroup 2>/dev/null; true"
    grouped = "! grep nice /proc/self/autogroup || grep 'nice 19' /proc/self/autogroup"
    lowest = f"[ $(nice) = 19 ] && {{ {grouped}; }} >/dev/null 2>&1"
    # It gets it when it runs already.
    jobs.add("build", f"{UNTIL.format(lowest)}; {show}", build=True)
    jobs.add("tier", f"sleep 0.3; {show}")
    jobs.run()
    assert jobs.log("build").splitlines()[0] == "19"
    assert jobs.log("tier").splitlines()[0] == str(os.nice(0))
    if (group := jobs.log("build").splitlines()[1:]) and "nice" in group[0]:
        assert group[0].endswith("nice 19")


def test_a_job_that_takes_too_long_is_ended(jobs: Jobs) -> None:
    """With all that it has started, and its log says so."""
    jobs.add("long", "sleep 500 & sleep 500", limit=0.5)
    jobs.add("short", "true")
    assert jobs.run() == {"long": -signal.SIGKILL, "short": 0}
    assert jobs.log("long").endswith("ended after 0.5 seconds\n")
    assert list(sleeping(jobs.folder)) == []


def test_nothing_that_a_job_has_left_stays(jobs: Jobs) -> None:
    """A daemon in a session of its own neither."""
    jobs.add("daemon", DAEMON)
    assert jobs.run() == {"daemon": 0}
    assert list(sleeping(jobs.folder)) == []


def test_a_daemon_that_ends_is_gone_at_once(jobs: Jobs) -> None:
    """As below init; who waits for its end by its number is not kept."""
    jobs.add("daemon", DAEMON)
    gone = "! kill -0 $(cat number) 2>/dev/null"
    jobs.add("watcher", f"kill -9 $(cat number); {UNTIL.format(gone)}; {gone}", needs=("daemon",))
    assert jobs.run() == {"daemon": 0, "watcher": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_where_the_run_is_ended(jobs: Jobs, number: signal.Signals) -> None:
    """Jobs may clean up first; one that does not end is killed, its daemons as well."""
    jobs.add("clean", "trap 'touch cleaned; exit 1' INT; touch a; while :; do sleep 0.1; done")
    jobs.add("deaf", "trap '' INT; setsid sleep 500 & touch b; sleep 500; sleep 500")
    with jobs.start() as scheduler:
        wait_for(jobs.folder / "a")
        wait_for(jobs.folder / "b")
        scheduler.send_signal(number)
        assert scheduler.wait(60) != 0
    assert (jobs.folder / "cleaned").exists()
    assert list(sleeping(jobs.folder)) == []
