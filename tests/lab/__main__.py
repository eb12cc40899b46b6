# SPDX-License-Identifier: Apache-2.0
"""The lab's commands: up, down, run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.lab import lab
from tests.lab.command import LabError
from tests.lab.keeper import REPOSITORY

FOLDER = REPOSITORY / "build" / "lab"


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="lab", description="Several hosts on one machine.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="what is known of the lab")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make hosts; those of an earlier lab end")
    up.add_argument("hosts", nargs="+", metavar="HOST")
    up.add_argument("--alias", action="append", default=[], metavar="NAME=HOST")
    up.add_argument("--show", action="append", default=[], metavar="PATH=FOLDER")
    up.add_argument("--owner", type=int, help="the process with which the lab ends")
    up.add_argument("--booted", action="store_true", help="systemd runs the hosts")
    commands.add_parser("down", help="end the lab")
    run = commands.add_parser("run", help="run a program on a host, as root")
    run.add_argument("host")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Do what the command line says; say in one line why it cannot be done."""
    given = parse(words)
    folder = given.folder.absolute()
    try:
        if given.command == "up":
            aliases, shown = (
                dict(pair.split("=", 1) for pair in pairs) for pairs in (given.alias, given.show)
            )
            lab.up(folder, given.hosts, aliases, given.owner, shown, booted=given.booted)
            sys.stdout.write(f"ssh -F {folder / 'ssh_config'} {given.hosts[0]}\n")
        elif given.command == "down":
            lab.down(folder)
        else:
            program = lab.Lab.read(folder).command(given.host, *given.argv)
            os.execvp(program[0], program)  # noqa: S606  # that is what the command is for
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
