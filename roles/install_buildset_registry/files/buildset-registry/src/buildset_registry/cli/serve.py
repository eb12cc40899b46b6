# SPDX-License-Identifier: Apache-2.0
"""``serve``: serve in the foreground, for supervisors."""

from __future__ import annotations

import argparse
import os
from typing import Any

from buildset_registry.cli.options import add_command, path

#: For jemalloc, by which Granian allocates; read when Granian is loaded. By default it spreads over
#: four arenas a processor and keeps what was freed for ten seconds: 40 MiB more with 150 clients.
#: A second takes 10 MiB more than a tenth and is no faster.
_ALLOCATION = ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:100")


def add(commands: Any) -> None:
    """Declare the command."""
    serve = add_command(commands, "serve", run, "Serve in the foreground until SIGTERM.")
    serve.add_argument(
        "--config", type=path, required=True, metavar="FILE", help="the configuration file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    os.environ.setdefault(*_ALLOCATION)
    from buildset_registry.config import load
    from buildset_registry.server.serve import run as serve

    return serve(load(arguments.config))
