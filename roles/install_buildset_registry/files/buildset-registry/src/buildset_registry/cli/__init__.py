# SPDX-License-Identifier: Apache-2.0
"""The command line: each command builds values, calls one function, prints, and exits.

A command is a module with ``add``, which declares it, and a row of ``COMMANDS``.

Exit codes: 0, done; 1, refused or failed; 2, the command line or the configuration is wrong; 3,
``status`` of a registry that does not run. Every error is one line on standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from buildset_registry import __version__
from buildset_registry.cli import (
    copy,
    down,
    gc,
    import_config,
    lock,
    overlay,
    report,
    serve,
    status,
    up,
    use,
    verify,
)
from buildset_registry.errors import ConfigError

PROGRAM = "buildset-registry"
#: In the order of ``--help``.
COMMANDS = (serve, up, status, down, report, gc, verify, copy, overlay, lock, use, import_config)

#: The exit code where the command line or the configuration is wrong.
WRONG = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{PROGRAM}: {message}; see {self.prog} --help\n")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = make_parser().parse_args(words)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return WRONG
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog=PROGRAM,
        description="A container registry for CI: holds what a buildset pushed, pulls everything "
        "else through.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
