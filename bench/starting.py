# SPDX-License-Identifier: Apache-2.0
"""Start-up, and the memory of a registry that has nothing to do yet."""

from __future__ import annotations

from statistics import median

from bench.figures import Figure
from bench.instances import Instance, running
from bench.processes import resident_mib
from bench.run import Run

_TIMES = 3


def start(instance: Instance, run: Run) -> Figure:
    """Milliseconds from the start of a process with an empty folder to its first answer."""
    taken, idle = [], []
    for _ in range(_TIMES):
        folder = run.folder / f"{instance.peer.name}-start"
        with running(instance.peer, folder, run.identity) as fresh:
            taken.append(fresh.ready_seconds * 1000)
            idle.append(resident_mib(fresh.pid))
    return Figure(median(taken), more={"idle_mib": median(idle)})
