# SPDX-License-Identifier: Apache-2.0
"""What the commands share: how one is declared, common options, how something is said."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildset_registry.errors import ConfigError
from buildset_registry.instance.paths import default_root

if TYPE_CHECKING:
    from buildset_registry.config import Config


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help_text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text
    )
    parser.set_defaults(run=run)
    return parser


def add_root(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--root",
        type=path,
        default=default_root(),
        metavar="DIR",
        help="the folder of the registry (%(default)s)",
    )


def add_json(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--json", action="store_true", help=help_text)


def add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    add_root(place)
    place.add_argument(
        "--config", type=path, metavar="FILE", help="its configuration, where serve was given one"
    )


def config_of(arguments: argparse.Namespace) -> Config:
    """Return the configuration that ``add_place`` names, of a store that commands find."""
    from buildset_registry.config import load
    from buildset_registry.instance.paths import InstancePaths
    from buildset_registry.store import store_kind

    file = arguments.config or InstancePaths(arguments.root).config
    if not arguments.config and not file.exists():
        raise ConfigError(
            f"there is no registry in {arguments.root}; name its folder by --root, "
            "or its configuration by --config"
        )
    config = load(file)
    if not store_kind(config).lasting:
        raise ConfigError(f"{file}: the registry keeps everything in memory: there is no folder")
    return config


def path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def seconds(text: str) -> int | str:
    if text == "forever":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seconds nor forever")
    return int(text)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def say_json(tree: object) -> None:
    say(json.dumps(tree))
