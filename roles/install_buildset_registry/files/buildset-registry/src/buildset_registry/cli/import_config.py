# SPDX-License-Identifier: Apache-2.0
"""``import-config``: print the configuration that another registry's becomes here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildset_registry.cli.options import add_command, path
from buildset_registry.cli.output import say
from buildset_registry.errors import ConfigError

#: What bcrypt costs by default in passlib.
_ROUNDS = 12


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "import-config",
        run,
        "Print what the configuration of distribution (registry:2, registry:3) or zuul-registry "
        "becomes here; what has no equal is named on standard error.",
    )
    parser.add_argument("file", metavar="FILE", help="the other registry's configuration")
    parser.add_argument(
        "--env-file",
        type=path,
        metavar="FILE",
        help="variables that it is started with, NAME=VALUE in a line each, beside those of the "
        "environment (REGISTRY_...)",
    )
    parser.add_argument(
        "--htpasswd",
        type=path,
        metavar="FILE",
        help="write a file of users here, where the other configuration has their passwords",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the configuration, and on standard error what it lacks."""
    import yaml

    from buildset_registry.config.imports import import_config

    environment = dict(os.environ)
    if arguments.env_file is not None:
        environment |= _variables(_read(arguments.env_file), arguments.env_file)
    text = sys.stdin.read() if arguments.file == "-" else _read(Path(arguments.file))
    imported = import_config(text, arguments.file, environment)
    config, notes = imported.config, list(imported.notes)
    if imported.users and arguments.htpasswd is not None:
        _write_users(arguments.htpasswd, imported.users)
        config["auth"]["htpasswd"] = str(arguments.htpasswd)
    elif imported.users:
        notes.append(
            "registry.users: their passwords go to a file of hashes; name it by --htpasswd"
        )
    say(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip())
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    return 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; name the file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8: byte {error.start} is no text") from None


def _variables(text: str, file: Path) -> dict[str, str]:
    """Return the variables of a file as docker and podman read it (``--env-file``)."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals:
            raise ConfigError(f"{file}: line {number} is not NAME=VALUE")
        found[name.strip()] = value
    return found


def _write_users(file: Path, users: Mapping[str, str]) -> None:
    """Write bcrypt hashes for the owner alone, beside no other file of that name."""
    from passlib.hash import bcrypt

    hashing = bcrypt.using(rounds=_ROUNDS, ident="2y")
    lines = "".join(f"{name}:{hashing.hash(word)}\n" for name, word in users.items())
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot write {file}: {error.strerror}; name a file that is not there yet"
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(lines)
    except OSError as error:
        # A part of it would be taken for the users of another time.
        file.unlink()
        raise ConfigError(f"cannot write {file}: {error.strerror}; make room") from None
