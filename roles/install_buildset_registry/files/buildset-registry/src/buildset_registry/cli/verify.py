# SPDX-License-Identifier: Apache-2.0
"""``verify``: name what is broken in the store."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from buildset_registry.cli.options import add_command, add_json, add_root_or_config, load_config
from buildset_registry.cli.output import Bar, amount, number, say, say_json

if TYPE_CHECKING:
    from buildset_registry.verify import Findings


def add(commands: Any) -> None:
    """Declare the command."""
    verify = add_command(
        commands,
        "verify",
        run,
        "Hash every blob and name what is broken; the registry may be running.",
    )
    add_root_or_config(verify)
    add_json(verify, "print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; the exit code is 1 where something is broken."""
    from buildset_registry.store.filesystem.disk import ReadingDisk
    from buildset_registry.store.filesystem.store import FilesystemStore
    from buildset_registry.verify import verify

    config, storage = load_config(arguments)
    store = FilesystemStore(storage, disk=ReadingDisk(storage))
    with Bar(sys.stderr) as bar, contextlib.closing(store):
        findings = asyncio.run(verify(store, bar.show, sparse=config.sparse_images))
    if arguments.json:
        say_json(findings.to_json())
    else:
        say("\n".join(_lines(findings)))
    return 1 if findings.problems else 0


def _lines(findings: Findings) -> list[str]:
    """Return the findings for people."""
    lines = [f"{one.kind} {one.name}: {one.reason}" for one in findings.problems]
    broken = number(len(findings.problems)) if findings.problems else "nothing"
    lines.append(
        f"{number(findings.blobs)} blobs of {amount(findings.size)}, "
        f"{number(findings.manifests)} manifests and {number(findings.tags)} tags "
        f"in {number(findings.repositories)} repositories: {broken} broken"
    )
    return lines
