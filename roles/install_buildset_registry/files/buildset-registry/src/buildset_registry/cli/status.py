# SPDX-License-Identifier: Apache-2.0
"""``status``: tell whether a registry runs, and how to use it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from buildset_registry.cli.options import add_command, add_json, add_root
from buildset_registry.cli.output import say, say_json, state

#: The exit code where the registry does not run.
NOT_RUNNING = 3


def add(commands: Any) -> None:
    """Declare the command."""
    status = add_command(
        commands, "status", run, "Tell whether the registry is running, and how to use it."
    )
    add_root(status)
    add_json(status, "print the state and the facts as JSON, the password included")


def run(arguments: argparse.Namespace) -> int:
    """Print the state of a registry; the exit code is 3 where it does not run."""
    from buildset_registry.instance.lifecycle import status
    from buildset_registry.instance.paths import InstancePaths

    found = status(InstancePaths(arguments.root))
    if arguments.json:
        say_json(asdict(found))
    else:
        say(state(found.root, found.pid, found.facts, answers=found.answers))
        if found.certificate is not None and found.certificate.problem:
            say(f"Needs a look: {found.certificate.problem}")
        elif found.certificate is not None:
            say(f"Its certificate is valid until {found.certificate.ends}.")
    return 0 if found.running else NOT_RUNNING
