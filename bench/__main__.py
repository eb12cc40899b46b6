# SPDX-License-Identifier: Apache-2.0
"""Start the peers, measure in rounds, print the table."""

from __future__ import annotations

import signal
import sys
import time
import uuid
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from bench import before, copying, options, report
from bench.client import Refused
from bench.content import Content
from bench.figures import Figures
from bench.identity import Identity
from bench.instances import Instance, NotStarted, running
from bench.measures import MEASURES, Measure
from bench.peers import PEERS
from bench.processes import wait_until_idle
from bench.run import Run
from bench.spreading import spread


def main(words: list[str]) -> int:
    """Return 1 where a figure is missing."""
    if words[:1] == ["copies"]:
        return copying.main(words[1:])
    chosen = options.parse(words)
    # However the run ends, what it has started ends with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    about = {"date": time.strftime("%Y-%m-%d"), "rounds": chosen.rounds, "size": chosen.size}
    if chosen.before:
        about["before"] = before.commit(chosen.before)
    going_on = chosen.resume or chosen.report
    figures = Figures.open(chosen.folder / "figures.json", about, resume=going_on)
    failed = 0 if chosen.report else _measure(chosen, figures)
    print(report.text(figures))
    report.write(figures, chosen.folder)
    if chosen.docs:
        report.write(figures, Path("docs", "explanation", "speed"))
    return 1 if failed else 0


def _measure(chosen: Namespace, figures: Figures) -> int:
    """Do all rounds; returns how many figures could not be had."""
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    spread(folder)
    if chosen.before:
        before.install(chosen.before, folder / "revision")
    content = Content(folder / "content", chosen.size, uuid.uuid4().hex)
    run = Run(
        folder,
        Identity.make(folder / "identity"),
        content,
        chosen.seconds,
        chosen.tags,
        min(chosen.tags, 1_000),
        chosen.repositories,
        chosen.crowd,
    )
    measures = [one for one in MEASURES if one.name in (chosen.measures or [one.name])]
    peers = [one for one in PEERS if one.name in (chosen.peers or [one.name])]
    if not chosen.before:
        peers = [one for one in peers if one.name != "before"]
    failed = 0
    with ExitStack() as stack:
        instances = []
        for peer in peers:
            try:
                instances.append(
                    stack.enter_context(running(peer, folder / peer.name, run.identity))
                )
            except NotStarted as problem:
                print(f"{problem}; left out", flush=True)
                failed += 1
        for run.turn in range(chosen.rounds):
            # Each round begins with another peer: whoever is first finds content just written.
            first = run.turn * len(instances) // chosen.rounds
            order = instances[first:] + instances[:first]
            for measure in measures:
                failed += sum(not _one(measure, each, order, run, figures) for each in order)
    return failed


def _one(
    measure: Measure, instance: Instance, instances: list[Instance], run: Run, figures: Figures
) -> bool:
    """Measure one of all peers once, where it takes part and it is not known yet."""
    name, turn = instance.peer.name, run.turn
    if not measure.takes(instance, turn) or figures.has(measure.name, name, turn):
        return True
    if not wait_until_idle(one.pid for one in instances):
        print("a registry is still busy with what it was asked before", flush=True)
    print(f"{turn + 1} {measure.name:<14}{name:<24}", end="", flush=True)
    try:
        figure = measure.function(instance, run)
    except (Refused, NotStarted, OSError) as problem:
        print(f"failed: {problem}", flush=True)
        return False
    figures.add(measure.name, name, turn, figure)
    print(f"{figure.value:12.2f} {measure.unit}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
