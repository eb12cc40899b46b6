# SPDX-License-Identifier: Apache-2.0
"""``copy``: images from registry to registry, and from and to folders in the OCI image layout."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from buildset_registry.cli.options import add_command, add_json, path
from buildset_registry.cli.output import Bar, amount, say, say_json
from buildset_registry.errors import ConfigError
from buildset_registry.progress import Progress

if TYPE_CHECKING:
    from buildset_registry.transfer.copy import CopyOptions, CopyReport, CopyResult
    from buildset_registry.transfer.ends import EndAccess
    from buildset_registry.transfer.image_names import CopyRequest

#: Seconds between two lines on a copy that takes long, where there is no terminal.
_LOG_SECONDS = 15.0


def add(commands: Any) -> None:
    """Declare the command."""
    copy = add_command(
        commands,
        "copy",
        run,
        "Copy images between registries and folders; digests stay what they are. An image is "
        "[docker://]host[:port]/repository[:tag|@digest], with http:// before the host for a "
        "registry without TLS, or oci:DIR[:ref].",
    )
    copy.add_argument("source", nargs="*", metavar="SOURCE", help="an image to copy")
    copy.add_argument(
        "destination",
        metavar="DESTINATION",
        help="where to; without a tag it takes the source's, and below a place that ends in / "
        "each image keeps its repository",
    )
    _add_sources(copy)
    copy.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="of an index, the image for this platform alone (default: all of it); may be repeated "
        "with --sparse",
    )
    copy.add_argument(
        "--sparse",
        action="store_true",
        help="keep the index as it is and leave out the images of the other platforms",
    )
    copy.add_argument(
        "--referrers",
        action="store_true",
        help="take along signatures, SBOMs and attestations, of an index and of its images",
    )
    _add_access(copy)
    copy.add_argument("--dry-run", action="store_true", help="copy nothing; tell what would be")
    add_json(copy, "print what was copied as JSON")


def _add_sources(copy: argparse.ArgumentParser) -> None:
    copy.add_argument(
        "--all-tags",
        action="store_true",
        help="each source is a repository: copy all that it lists as tags",
    )
    copy.add_argument(
        "--lock",
        type=path,
        metavar="FILE",
        help="copy the images of this lock, by their digests, and no others",
    )
    copy.add_argument(
        "--from",
        dest="through",
        metavar="HOST[:PORT]",
        help="with --lock, the buildset registry to take them from (default: their upstreams)",
    )


def _add_access(copy: argparse.ArgumentParser) -> None:
    for end in ("source", "dest"):
        copy.add_argument(
            f"--{end}-ca",
            type=path,
            metavar="FILE",
            help="a CA in PEM to trust there, beside the system's",
        )
    copy.add_argument(
        "--authfile",
        type=path,
        metavar="FILE",
        help="the file with the credentials, as docker login and podman login write it (default: "
        "the ones that they write)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copy; the exit code is 1 where an image could not be."""
    from buildset_registry.transfer.copy import copy_images
    from buildset_registry.transfer.ends import EndAccess
    from buildset_registry.transfer.errors import TransferError

    def access(ca: Path | None) -> EndAccess:
        authfile = arguments.authfile
        return EndAccess(ca=_read(ca), authfile=str(authfile) if authfile else None)

    _check(arguments)
    try:
        requests = _requests(arguments, access(arguments.source_ca))
        with Bar(sys.stderr) as drawn:
            report = copy_images(
                requests,
                access(arguments.source_ca),
                access(arguments.dest_ca),
                _options(arguments, drawn if sys.stderr.isatty() else _Log(sys.stderr)),
            )
    except TransferError as error:
        raise ConfigError(str(error)) from None
    if arguments.json:
        say_json(report.to_json())
    else:
        for line in _lines(report, dry_run=arguments.dry_run):
            say(line)
    for one in report.failed:
        sys.stderr.write(f"buildset-registry: {one.source}: {one.error}\n")
    return 1 if report.failed else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse words that do not go together."""
    lock = arguments.lock is not None
    if not arguments.source and not lock:
        raise ConfigError("name an image and then where to copy it, or a lock of images by --lock")
    if arguments.source and lock:
        raise ConfigError("name the images to copy, or a lock of them by --lock: one of both")
    if arguments.all_tags and lock:
        raise ConfigError("a lock names its images; leave out --all-tags")
    if arguments.through and not lock:
        raise ConfigError("--from says where the images of a lock are; give --lock, too")
    if lock and arguments.platform and not arguments.sparse:
        raise ConfigError(
            "an image for one platform has another digest than the lock says; add --sparse, "
            "which keeps the index"
        )


def _requests(arguments: argparse.Namespace, access: EndAccess) -> list[CopyRequest]:
    """Return what is to be copied, and where to."""
    from buildset_registry.transfer.ends import tagged_images
    from buildset_registry.transfer.image_names import requests

    if arguments.lock:
        return _locked(arguments)
    sources = arguments.source
    if arguments.all_tags:
        sources, empty = tagged_images(sources, access)
        for repository in empty:
            sys.stderr.write(f"buildset-registry: {repository} has no tag; it is left out\n")
    return requests(sources, arguments.destination)


def _locked(arguments: argparse.Namespace) -> list[CopyRequest]:
    """Return what copies the images of a lock; in a folder, they have their public names."""
    from buildset_registry.image_lock.document import ImageLock
    from buildset_registry.transfer.image_names import CopyRequest, LayoutImage, parse_image

    place: str = arguments.destination
    folder = parse_image(place) if place.startswith("oci:") else None
    if isinstance(folder, LayoutImage) and folder.ref:
        raise ConfigError(f"{place} names one image; give the folder alone, as oci:DIR")
    if folder is None and not place.endswith("/"):
        raise ConfigError(f"{place} is no place for several images; write oci:DIR, or HOST:PORT/")
    found = []
    for name, image in ImageLock.load(arguments.lock).images.items():
        public = f"{arguments.through}/{name.name}" if arguments.through else name.repository
        target = (
            LayoutImage(folder.folder, str(name))
            if isinstance(folder, LayoutImage)
            else parse_image(f"{place}{name.name}:{name.tag}")
        )
        found.append(CopyRequest(parse_image(f"{public}@{image.digest}"), target))
    return found


def _read(ca: Path | None) -> str | None:
    if ca is None:
        return None
    try:
        return ca.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{ca} cannot be read: {error.strerror}; name a CA in PEM") from None
    except ValueError:
        raise ConfigError(f"{ca} is no text; name a CA in PEM") from None


class _Log:
    """Progress in a log: a line from time to time."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._told = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Write a line, unless that was done a short while ago."""
        if progress.total and time.monotonic() - self._told >= _LOG_SECONDS:
            self._told = time.monotonic()
            done, total = amount(progress.done), amount(progress.total)
            self._output.write(f"buildset-registry: copied {done} of {total}\n")
            self._output.flush()


def _options(arguments: argparse.Namespace, shown: Bar | _Log) -> CopyOptions:
    from buildset_registry.transfer.copy import CopyOptions
    from buildset_registry.transfer.platforms import parse_platform

    drawing = threading.Lock()

    def report(stage: str, done: int, total: int) -> None:
        with drawing:
            shown.show(Progress(stage, done, total))

    return CopyOptions(
        platforms=tuple(parse_platform(one) for one in arguments.platform),
        sparse=arguments.sparse,
        referrers=arguments.referrers,
        dry_run=arguments.dry_run,
        journal=journal(),
        report=report,
    )


def journal() -> Path | None:
    """Return the folder where uploads that were begun are remembered; None without a home."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user who is a number only, as in a container
        return None
    return Path(cache) / "buildset-registry" / "uploads"


def _lines(report: CopyReport, *, dry_run: bool) -> list[str]:
    return [_line(one, dry_run=dry_run) for one in report.images if not one.error]


def _line(one: CopyResult, *, dry_run: bool) -> str:
    sent = f"{amount(one.moved)} {'to send' if dry_run else 'sent'}"
    mounted = f", {amount(one.mounted)} mounted" if one.mounted else ""
    there = f", {amount(one.skipped)} there already" if one.skipped else ""
    return f"{one.source} -> {one.destination} {one.digest}: {sent}{mounted}{there}"
