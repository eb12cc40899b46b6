# SPDX-License-Identifier: Apache-2.0
"""``down``: stop a registry, and with ``--purge`` remove it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from buildset_registry.cli.options import add_command, add_json, add_root
from buildset_registry.cli.output import say, say_json

if TYPE_CHECKING:
    from buildset_registry.instance.lifecycle import DownReport

#: Names of what stays that are printed.
_SHOWN = 5


def add(commands: Any) -> None:
    """Declare the command."""
    down = add_command(commands, "down", run, "Stop the registry; its images stay.")
    add_root(down)
    add_json(down, "print as JSON whether anything changed")
    down.add_argument(
        "--purge",
        action="store_true",
        help="remove it as well: images, certificate, credentials, configuration; what is not its "
        "own stays",
    )


def run(arguments: argparse.Namespace) -> int:
    """Stop a registry, and with ``--purge`` remove it."""
    from buildset_registry.instance.lifecycle import down
    from buildset_registry.instance.paths import InstancePaths

    report = down(InstancePaths(arguments.root), purge=arguments.purge)
    if report.left:
        names = ", ".join(report.left[:_SHOWN]) + (" ..." if report.left[_SHOWN:] else "")
        sys.stderr.write(
            f"buildset-registry: {arguments.root} stays, with what is not the registry's: {names}\n"
        )
    if arguments.json:
        say_json({"changed": report.changed})
    else:
        say(_told(arguments, report))
    return 0


def _told(arguments: argparse.Namespace, report: DownReport) -> str:
    """Return what was done in a line."""
    root = arguments.root
    if not arguments.purge:
        stopped = "the registry is stopped; its images stay"
        return stopped if report.changed else f"no registry is running in {root}"
    if report.left:
        return f"the registry in {root} is removed"
    return f"{root} is removed" if report.changed else f"there is no {root}"
