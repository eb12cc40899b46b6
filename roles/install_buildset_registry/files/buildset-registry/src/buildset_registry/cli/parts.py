# SPDX-License-Identifier: Apache-2.0
"""What the commands share: how one is declared, common options, how something is said."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildset_registry.instance.place import default_root


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help_text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text
    )
    parser.set_defaults(run=run)
    return parser


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=path,
        default=default_root(),
        metavar="DIR",
        help="the folder of the registry (%(default)s)",
    )


def add_json(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--json", action="store_true", help=help_text)


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def say_json(tree: object) -> None:
    say(json.dumps(tree))
