# SPDX-License-Identifier: Apache-2.0
"""``report``: tell which image each client got, from where, and what was not seen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildset_registry.cli import loop
from buildset_registry.cli.options import add_command, add_json, add_root_or_config, path
from buildset_registry.cli.output import say, say_json
from buildset_registry.errors import ConfigError

if TYPE_CHECKING:
    from buildset_registry.config import Config
    from buildset_registry.report.values import Summary


def add(commands: Any) -> None:
    """Declare the command."""
    report = add_command(
        commands,
        "report",
        run,
        "Tell which image each client got and from where; the registry may be running.",
    )
    add_root_or_config(report)
    add_json(report, "print the report as JSON")
    report.add_argument(
        "--html", type=path, metavar="FILE", help="write it as one HTML file that stands alone"
    )
    report.add_argument(
        "--node",
        type=_node,
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help="a node that should have asked; may be given several times",
    )
    report.add_argument(
        "--ask-upstreams",
        action="store_true",
        help="ask upstreams, by HEAD, which tags have moved since they were pulled",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report, or write it."""
    loop.without_log()
    report = loop.run(_report(arguments))
    if arguments.html is not None:
        _write(arguments.html, report)
    if arguments.json:
        say_json(report.to_json())
    elif arguments.html is None:
        from buildset_registry.report.text import as_text

        say(as_text(report))
    return 0


async def _report(arguments: argparse.Namespace) -> Summary:
    from buildset_registry.report.gather import add_moved, gather

    config, name = _load(arguments)
    report = await gather(config, name, dict(arguments.node))
    if arguments.ask_upstreams:
        from buildset_registry.server.replay import upstream_client

        client = upstream_client(config)
        try:
            await add_moved(report, config, client)
        finally:
            await client.close()
    return report


def _load(arguments: argparse.Namespace) -> tuple[Config, str]:
    """Return the configuration, and the name by which the report calls the registry."""
    from buildset_registry.config import load
    from buildset_registry.instance.paths import InstancePaths
    from buildset_registry.instance.plan import read_facts

    paths = InstancePaths(arguments.root)
    file = arguments.config or paths.config
    if not arguments.config and not file.exists():
        raise ConfigError(
            f"there is no registry in {arguments.root}; name its folder by --root, "
            "or its configuration by --config"
        )
    facts = None if arguments.config else read_facts(paths)
    name = f"{facts['host']}:{facts['port']}" if facts else str(file)
    return load(file), name


def _write(file: Path, report: Summary) -> None:
    from buildset_registry.files import write_output
    from buildset_registry.report.page import as_page

    # Half a character, which JSON may hold, is no text of a file.
    write_output(file, as_page(report).encode("utf-8", "replace"))


def _node(text: str) -> tuple[str, str]:
    """Return a node's address and name."""
    name, separator, address = text.rpartition("=")
    if not separator or not address or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS")
    return address, name
