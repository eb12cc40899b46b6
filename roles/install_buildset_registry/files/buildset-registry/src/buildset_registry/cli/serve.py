# SPDX-License-Identifier: Apache-2.0
"""``serve``: in the foreground, for supervisors."""

from __future__ import annotations

import argparse
from typing import Any

from buildset_registry.cli.parts import add_command, path


def add(commands: Any) -> None:
    """Declare the command."""
    serve = add_command(commands, "serve", run, "Serve in the foreground until SIGTERM.")
    serve.add_argument(
        "--config", type=path, required=True, metavar="FILE", help="the configuration file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    from buildset_registry.config import load
    from buildset_registry.server import run

    run(load(arguments.config))
    return 0
