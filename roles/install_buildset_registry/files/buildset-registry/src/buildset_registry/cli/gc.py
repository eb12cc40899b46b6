# SPDX-License-Identifier: Apache-2.0
"""``gc``: remove what nothing refers to any more, or print what that would be."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from buildset_registry.cli import loop
from buildset_registry.cli.options import add_command, add_json, add_root_or_config, load_config
from buildset_registry.cli.output import Bar, amount, number, say, say_json

if TYPE_CHECKING:
    from buildset_registry.gc import CollectionReport, JudgedImage

_SHOWN = 50
_KINDS = {"upload": "abandoned uploads", "manifest": "manifests", "cached": "cached images"}
_OF_RETENTION = {"tag": "tags"}


def add(commands: Any) -> None:
    """Declare the command."""
    gc = add_command(
        commands, "gc", run, "Remove what nothing refers to any more; the registry may be running."
    )
    add_root_or_config(gc)
    add_json(gc, "print the report as JSON")
    gc.add_argument(
        "--dry-run", action="store_true", help="remove nothing; print what would be removed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Collect garbage and print a report; the exit code is 1 where not all was done."""
    from buildset_registry.server.collection import collection_rules, possibly_at_upstream
    from buildset_registry.server.control_socket import collect_in

    config = load_config(arguments)
    with Bar(sys.stderr) as drawn:
        report = loop.run(
            collect_in(
                config,
                collection_rules(config.gc),
                drawn.show,
                possibly_at_upstream(config),
                dry_run=arguments.dry_run,
            )
        )
    if arguments.json:
        say_json(report.to_json())
    else:
        say("\n".join(_lines(report)))
    return 1 if report.problems or report.incomplete else 0


def _lines(report: CollectionReport) -> list[str]:
    """Return the report for people."""
    shown = report.removed[:_SHOWN]
    lines = [f"{one.kind} {one.name}: {one.reason}" for one in shown]
    if len(shown) < len(report.removed):
        lines.append(f"... and {number(len(report.removed) - len(shown))} more; --json lists all")
    lines = [f"image {_judged(one)}" for one in report.images] + lines
    lines += [f"retention: {note}" for note in report.notes]
    lines += [f"damaged: {problem}" for problem in report.problems]
    lines += [
        f"repository {name}: its name is not accepted; all that it holds stays"
        for name in report.misnamed
    ]
    kinds = _OF_RETENTION | _KINDS if report.count("tag") else _KINDS
    counts = [f"{number(report.count(kind))} {name}" for kind, name in kinds.items()]
    counts.append(f"{number(report.blobs)} blobs of {amount(report.freed_bytes)}")
    lines.append(f"{'would remove' if report.dry_run else 'removed'} {', '.join(counts)}")
    if report.problems:
        lines.append("no blobs are removed until this is repaired; run buildset-registry verify")
    else:
        lines.append(f"kept {number(report.kept_blobs)} blobs of {amount(report.kept_bytes)}")
    return lines


def _judged(image: JudgedImage) -> str:
    """Return what the rules say of an image."""
    verdict = "stays" if image.kept else "goes"
    by = f" by {image.rule}" if image.rule else ""
    return f"{image.name} {verdict}{by}: {image.reason}"
