# SPDX-License-Identifier: Apache-2.0
"""``down``: stop a registry, and with ``--purge`` remove it."""

from __future__ import annotations

import argparse
from typing import Any

from buildset_registry.cli.options import add_command, add_json, add_root
from buildset_registry.cli.output import say, say_json


def add(commands: Any) -> None:
    """Declare the command."""
    down = add_command(commands, "down", run, "Stop the registry; its images stay.")
    add_root(down)
    add_json(down, "print as JSON whether anything changed")
    down.add_argument(
        "--purge",
        action="store_true",
        help="remove the folder as well: images, certificate, credentials, configuration",
    )


def run(arguments: argparse.Namespace) -> int:
    """Stop a registry, and with ``--purge`` remove it."""
    from buildset_registry.instance.lifecycle import down
    from buildset_registry.instance.paths import InstancePaths

    changed = down(InstancePaths(arguments.root), purge=arguments.purge)
    if arguments.json:
        say_json({"changed": changed})
    elif arguments.purge:
        say(f"{arguments.root} is removed" if changed else f"there is no {arguments.root}")
    else:
        say(
            "the registry is stopped; its images stay" if changed else "no registry is running here"
        )
    return 0
