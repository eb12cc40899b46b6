# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
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
    """Declare a command; ``run`` returns its exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text
    )
    parser.set_defaults(run=run)
    return parser


def add_root(parser: argparse._ActionsContainer) -> None:
    """Declare ``--root``."""
    parser.add_argument(
        "--root",
        type=path,
        default=default_root(),
        metavar="DIR",
        help="the folder of the registry (%(default)s)",
    )


def add_json(parser: argparse._ActionsContainer, help_text: str) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help=help_text)


def add_root_or_config(parser: argparse.ArgumentParser) -> None:
    """Declare ``--root`` and, in its place, ``--config``."""
    group = parser.add_mutually_exclusive_group()
    add_root(group)
    group.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="its configuration file instead, if that is what serve was given",
    )


def load_config(arguments: argparse.Namespace, *, lasting: bool = True) -> Config:
    """Return the configuration that ``--root`` or ``--config`` names, of a store that lasts."""
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
    if lasting and not store_kind(config).lasting:
        raise ConfigError(
            f"{file}: the registry keeps everything in memory, so there is no folder to look at"
        )
    return config


def path(text: str) -> Path:
    """Return an absolute path."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"{text}: there is no such home; write the path in full") from None


def port(text: str) -> int:
    """Return the number of a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def seconds(text: str) -> int | str:
    """Return a number of seconds, or the word ``forever``."""
    if text == "forever":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seconds nor forever")
    return int(text)
