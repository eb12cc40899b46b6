# SPDX-License-Identifier: Apache-2.0
"""``status``: tell whether a registry runs, and how to use it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from buildset_registry.cli.condition import condition
from buildset_registry.cli.options import add_command, add_json, add_root_or_config
from buildset_registry.cli.output import say, say_json

#: The exit code where the registry does not run.
NOT_RUNNING = 3


#: The exit code of ``--health`` where an endpoint does not answer.
NOT_HEALTHY = 1


def add(commands: Any) -> None:
    """Declare the command."""
    status = add_command(
        commands,
        "status",
        run,
        "Tell whether the registry is running, how to use it, and what of it needs a look.",
    )
    add_root_or_config(status)
    printed = status.add_mutually_exclusive_group()
    add_json(printed, "print the state and the facts as JSON, the password included")
    printed.add_argument(
        "--health",
        action="store_true",
        help="only ask every endpoint; the exit code is 1 where one does not answer",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the state of a registry; the exit code is 3 where it does not run."""
    from buildset_registry.instance.lifecycle import (
        check_health,
        status,
        status_of_configuration,
    )
    from buildset_registry.instance.paths import InstancePaths

    if arguments.health:
        silent = check_health(arguments.config or InstancePaths(arguments.root).config)
        if silent:
            sys.stderr.write(f"buildset-registry: no answer on port {', '.join(silent)}\n")
        return NOT_HEALTHY if silent else 0
    if arguments.config:
        found = status_of_configuration(arguments.config)
    else:
        found = status(InstancePaths(arguments.root))
    if arguments.json:
        say_json(asdict(found))
    else:
        say(condition(found, arguments.config))
    return 0 if found.running else NOT_RUNNING
