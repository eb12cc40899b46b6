# SPDX-License-Identifier: Apache-2.0
"""``verify``: name what is broken in the store."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buildset_registry.cli import loop
from buildset_registry.cli.options import add_command, add_json, add_root_or_config, load_config
from buildset_registry.cli.output import Bar, amount, number, say, say_json

if TYPE_CHECKING:
    from buildset_registry.config import Config
    from buildset_registry.repair import Repaired
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
    verify.add_argument(
        "--repair",
        action="store_true",
        help="mend what can be mended and remove what cannot; no registry may be running",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; the exit code is 1 where something is broken, and stays so."""
    config = load_config(arguments)
    repaired: list[Repaired] = []
    with Bar(sys.stderr) as drawn:
        if arguments.repair:
            findings, repaired = loop.run(_repair(config, drawn))
        else:
            findings = loop.run(_verify(config, drawn))
    if arguments.json:
        more = {"repaired": [asdict(one) for one in repaired]} if arguments.repair else {}
        say_json(findings.to_json() | more)
    else:
        done = [
            f"{one.problem.kind} {one.problem.name}: {one.done}: {one.problem.reason}"
            for one in repaired
        ]
        say("\n".join(done + _lines(findings)))
    return 1 if findings.problems else 0


async def _verify(config: Config, progress: Bar) -> Findings:
    from buildset_registry.store import Purpose, open_store
    from buildset_registry.verify import verify

    async with aclosing(await open_store(config, Purpose.READ)) as store:
        return await verify(store, progress.show, sparse=config.sparse_images)


async def _repair(config: Config, progress: Bar) -> tuple[Findings, list[Repaired]]:
    from buildset_registry.repair import verify_and_repair
    from buildset_registry.store import Purpose, open_store

    async with aclosing(await open_store(config, Purpose.COLLECT)) as store:
        return await verify_and_repair(store, progress.show, sparse=config.sparse_images)


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
