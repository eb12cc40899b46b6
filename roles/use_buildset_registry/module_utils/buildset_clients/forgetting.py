# SPDX-License-Identifier: Apache-2.0
"""Having dockerd drop a mirror that its file is not to name any more, while containers go on.

At SIGHUP dockerd takes what its file sets, and keeps what the file no longer sets. So the file sets
an empty list of mirrors until the daemon has read it, and becomes what it was only then.
"""

from __future__ import annotations

import time

from . import files, pulling
from .applying import Applying, Step
from .client import Client, PullError
from .daemons import Daemons
from .docker import MIRRORS
from .edits import JSON
from .jsontext import dump, load

_SECONDS = 20


def forget(applying: Applying, daemons: Daemons) -> bool:
    """Take the mirrors from a daemon that runs, before its file is restored.

    False is returned where it may have kept them. A daemon that will be restarted needs nothing.
    """
    if applying.outcome.actions.get("docker") != "reload" or not daemons.runs("docker"):
        return True
    read_again = [
        applying.node.real(name)
        for name, entry in applying.ledger.entries.items()
        if (entry.client, entry.kind, entry.action) == ("docker", JSON, "reload")
    ]
    steps = [step for step in applying.steps if step.path in read_again]
    return all(_sets_mirrors(step) or _clear(step, daemons) for step in steps)


def _sets_mirrors(step: Step) -> bool:
    return MIRRORS in load(step.target, str(step.path))


def _clear(step: Step, daemons: Daemons) -> bool:
    program, status = daemons.node.program("docker"), files.status(step.path)
    if program is None or status is None:
        return False
    settings = {**load(step.target, str(step.path)), MIRRORS: []}
    files.write(step.path, dump(settings, step.current), status.mode)
    daemons.tell("docker", "reload")
    client = Client("docker", "docker", program)
    deadline = time.monotonic() + _SECONDS
    try:
        while pulling.mirrors(client):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
    except PullError:
        return False
    return True
