# SPDX-License-Identifier: Apache-2.0
"""``lock``: write down which image each tag of an upstream was."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from buildset_registry.cli import loop
from buildset_registry.cli.options import add_command, add_root_or_config, load_config, path
from buildset_registry.cli.output import say
from buildset_registry.errors import ConfigError

if TYPE_CHECKING:
    from buildset_registry.config import Config
    from buildset_registry.image_lock.currency import LockUpdate
    from buildset_registry.image_lock.document import ImageLock
    from buildset_registry.oci.digest import Digest

_FORMATS = ("json", "source-policy", "slsa", "compose")
#: Where compose looks for a project (the compose specification, "Compose file").
_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def add(commands: Any) -> None:
    """Declare the command."""
    lock = add_command(
        commands, "lock", run, "Print which image each tag that was pulled through is."
    )
    add_root_or_config(lock)
    lock.add_argument(
        "--output",
        type=path,
        metavar="FILE",
        help="write it there; days in a lock that is there already are kept",
    )
    lock.add_argument(
        "--format", choices=_FORMATS, default="json", help="the form of it (%(default)s)"
    )
    lock.add_argument(
        "--compose-file",
        action="append",
        default=[],
        metavar="FILE",
        help="a compose file whose services to pin; - reads standard input; may be repeated",
    )
    lock.add_argument(
        "--update",
        nargs="*",
        metavar="NAME",
        help="ask upstreams what the tags are now, of these images or of all; show what differs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the lock; the exit code is 1 where an update could not ask for all of it."""
    from buildset_registry.image_lock.document import ImageLock

    config = load_config(arguments)
    replayed = ImageLock.load(config.lock.file) if config.lock else None
    written = ImageLock.load(arguments.output) if _has_lock(arguments) else None
    if arguments.update is None:
        lock = loop.run(_record(config, written or replayed))
        _write(arguments, config, lock)
        return 0
    loop.without_log()
    base = written or replayed or loop.run(_record(config, None))
    update = loop.run(_update(config, base, arguments.update))
    _write(arguments, config, update.lock)
    _tell(update, sys.stdout if arguments.output else sys.stderr)
    return 1 if update.failed else 0


def _has_lock(arguments: argparse.Namespace) -> bool:
    """Tell whether a lock is to be completed; an empty file is none, nor is what a pipe gives."""
    file: Path | None = arguments.output
    if arguments.format != "json" or file is None:
        return False
    return file.is_file() and file.stat().st_size > 0


def _write(arguments: argparse.Namespace, config: Config, lock: ImageLock) -> None:
    from buildset_registry.files import write_output

    text = _exported(arguments, config, lock)
    if arguments.output is None:
        sys.stdout.write(text)
        return
    write_output(arguments.output, text)
    if arguments.update is None:
        say(f"{len(lock.images)} images are in {arguments.output}")


def _exported(arguments: argparse.Namespace, config: Config, lock: ImageLock) -> str:
    """Return the lock in the form that was asked for."""
    from buildset_registry.image_lock import exports

    if arguments.format == "source-policy":
        return exports.source_policy(lock)
    if arguments.format == "slsa":
        return exports.statement(lock, loop.run(_pushed(config)))
    if arguments.format == "compose":
        text, left = exports.compose_override(lock, _projects(arguments.compose_file))
        for service in left:
            sys.stderr.write(f"buildset-registry: not in the lock: {service}\n")
        return text
    return lock.dump()


async def _record(config: Config, known: ImageLock | None) -> ImageLock:
    from buildset_registry.image_lock.record import record
    from buildset_registry.overlay.document import Overlay
    from buildset_registry.store import Purpose, open_store

    overlay = Overlay.load(config.overlay.folder) if config.overlay else Overlay()
    built = {(name, image.digest) for name, image in overlay.images.items()}
    async with aclosing(await open_store(config, Purpose.READ)) as store:
        return await record(store, known, built)


async def _pushed(config: Config) -> dict[str, Digest]:
    from buildset_registry.image_lock.record import pushed_images
    from buildset_registry.store import Purpose, open_store

    async with aclosing(await open_store(config, Purpose.READ)) as store:
        return await pushed_images(store)


async def _update(config: Config, lock: ImageLock, names: list[str]) -> LockUpdate:
    from buildset_registry.image_lock.currency import update
    from buildset_registry.image_lock.table import check_configured
    from buildset_registry.server.replay import upstream_client

    check_configured(lock, [upstream.name for upstream in config.upstreams])
    client = upstream_client(config)
    try:
        return await update(client, lock, names)
    finally:
        await client.close()


def _tell(update: LockUpdate, output: TextIO) -> None:
    """Print the difference, a line for each image."""
    lines = [f"{name}: {before} -> {now}" for name, (before, now) in update.moved.items()]
    lines += [f"{name}: unchanged, {reason}" for name, reason in update.failed.items()]
    output.write("\n".join([*sorted(lines), f"{len(update.moved)} images moved", ""]))


def _projects(files: list[str]) -> list[tuple[str, str]]:
    """Return the compose files that are named, or the one that is here."""
    found = files or [name for name in _COMPOSE_FILES if Path(name).exists()][:1]
    if not found:
        raise ConfigError(
            "there is no compose file here; name one by --compose-file, or - for what "
            "docker compose config prints"
        )
    return [(name, _read(name)) for name in found]


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read {name}: {reason}; name another --compose-file") from None
