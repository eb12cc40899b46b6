# SPDX-License-Identifier: Apache-2.0
"""``overlay``: hand images of other builds to a registry, or tell which ones it has been handed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildset_registry.cli import loop
from buildset_registry.cli.options import add_command, add_json, add_root_or_config, load_config
from buildset_registry.cli.output import say, say_json
from buildset_registry.errors import ConfigError

if TYPE_CHECKING:
    from buildset_registry.overlay.document import Overlay

#: Bytes of a document that are read: a hundred images are 100 kB.
_MOST = 16 * 1024 * 1024


def add(commands: Any) -> None:
    """Declare the command."""
    overlay = add_command(
        commands,
        "overlay",
        run,
        "Serve images of other builds from the registry that holds them, without copying any.",
    )
    add_root_or_config(overlay)
    add_json(overlay, "print the images as JSON, without any secret")
    overlay.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="what the role that pulls makes of artifacts; - reads standard input; default: print "
        "what is overlaid",
    )


def run(arguments: argparse.Namespace) -> int:
    """Take what is handed over, or print; the exit code is 1 where an image cannot be had."""
    from buildset_registry.overlay.document import Overlay
    from buildset_registry.overlay.handing import failures, hand_over, prepare

    config = load_config(arguments, lasting=False)
    if config.overlay is None:
        raise ConfigError("this registry has no overlay; set overlay.folder in its configuration")
    folder = config.overlay.folder
    if arguments.file is None:
        _print(arguments, Overlay.load(folder))
        return 0
    later = _read(arguments.file)
    loop.without_log()
    prepare(folder, later)
    failed = loop.run(failures(later, folder))
    if failed:
        sys.stderr.write("".join(f"buildset-registry: {line}\n" for line in failed))
        return 1
    hand_over(folder, later)
    _print(arguments, later)
    return 0


def _read(file: str) -> Overlay:
    from buildset_registry.overlay.document import Overlay

    source = "standard input" if file == "-" else file
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(_MOST)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(_MOST)
        return Overlay.parse(raw.decode(), source)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read {source}: {reason}; name another file") from None


def _print(arguments: argparse.Namespace, overlay: Overlay) -> None:
    images = sorted(overlay.images.values(), key=lambda one: str(one.name))
    if arguments.json:
        listed = [
            {
                "name": str(one.name),
                "digest": str(one.digest),
                "registry": str(one.holder.host),
                "build": one.build,
                "change": one.change,
                "expires": int(one.holder.expires),
            }
            for one in images
        ]
        say_json({"images": listed})
        return
    lines = [f"{one.name} is {one.digest} of {one.made_by}" for one in images]
    say("\n".join([*lines, f"{len(images)} images of other builds are overlaid"]))
