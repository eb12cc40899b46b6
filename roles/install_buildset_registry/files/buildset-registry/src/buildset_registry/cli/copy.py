# SPDX-License-Identifier: Apache-2.0
"""``copy``: images from registry to registry, and from and to folders in the OCI image layout."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildset_registry.cli.options import add_command, add_json, path
from buildset_registry.cli.output import Bar, amount, say, say_json
from buildset_registry.errors import ConfigError
from buildset_registry.progress import Progress

if TYPE_CHECKING:
    from buildset_registry.transfer.copy import CopyOptions, CopyReport, CopyResult
    from buildset_registry.transfer.image_names import CopyRequest


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
    copy.add_argument("source", nargs="+", metavar="SOURCE", help="an image to copy")
    copy.add_argument(
        "destination",
        metavar="DESTINATION",
        help="where to; without a tag it takes the source's, and below a place that ends in / "
        "each image keeps its repository",
    )
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
    from buildset_registry.transfer import image_names
    from buildset_registry.transfer.copy import copy_images
    from buildset_registry.transfer.ends import EndAccess
    from buildset_registry.transfer.errors import TransferError

    def access(ca: Path | None) -> EndAccess:
        authfile = arguments.authfile
        return EndAccess(ca=_read(ca), authfile=str(authfile) if authfile else None)

    try:
        requests = image_names.requests(arguments.source, arguments.destination)
    except TransferError as error:
        raise ConfigError(str(error)) from None
    try:
        with Bar(sys.stderr) as bar:
            report = copy_images(
                requests,
                access(arguments.source_ca),
                access(arguments.dest_ca),
                _options(arguments, requests, bar),
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


def _read(ca: Path | None) -> str | None:
    if ca is None:
        return None
    try:
        return ca.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{ca} cannot be read: {error.strerror}; name a CA in PEM") from None
    except ValueError:
        raise ConfigError(f"{ca} is no text; name a CA in PEM") from None


def _options(arguments: argparse.Namespace, requests: list[CopyRequest], bar: Bar) -> CopyOptions:
    from buildset_registry.transfer.copy import CopyOptions
    from buildset_registry.transfer.platforms import parse_platform

    drawing = threading.Lock()

    def report(stage: str, done: int, total: int) -> None:
        with drawing:
            bar.show(Progress(stage, done, total))

    return CopyOptions(
        platforms=tuple(parse_platform(one) for one in arguments.platform),
        sparse=arguments.sparse,
        referrers=arguments.referrers,
        dry_run=arguments.dry_run,
        journal=journal(),
        report=report,
    )


def journal() -> Path:
    """Return the folder where uploads that were begun are remembered."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "buildset-registry" / "uploads"


def _lines(report: CopyReport, *, dry_run: bool) -> list[str]:
    return [_line(one, dry_run=dry_run) for one in report.images if not one.error]


def _line(one: CopyResult, *, dry_run: bool) -> str:
    sent = f"{amount(one.moved)} {'to send' if dry_run else 'sent'}"
    mounted = f", {amount(one.mounted)} mounted" if one.mounted else ""
    there = f", {amount(one.skipped)} there already" if one.skipped else ""
    return f"{one.source} -> {one.destination} {one.digest}: {sent}{mounted}{there}"
