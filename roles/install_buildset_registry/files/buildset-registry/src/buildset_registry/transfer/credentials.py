# SPDX-License-Identifier: Apache-2.0
"""Credentials that docker and podman keep: their files, and the helpers that these name.

Sources: containers-auth.json(5), docker's ``config.json``, and docker-credential-helpers'
protocol. The entry of the longest name wins: ``quay.io/org/app``, then ``quay.io/org``, then
``quay.io``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..oci.hosts import DOCKER_HUB
from .errors import TransferError
from .session import RegistryLogin

_DOCKER_HUB_KEYS = ("docker.io", "https://index.docker.io/v1/", "index.docker.io")
_HELPER_SECONDS = 60
_TOKEN = re.compile(r"[\x21-\x7e]+")
#: The user name by which a helper says that the secret is a token to be changed for others.
_IDENTITY_USER = "<token>"


class CredentialStore:
    """The files of one end, read when they are first wanted."""

    def __init__(
        self, authfile: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._authfile = authfile
        self._trees: list[tuple[Path, dict[str, Any]]] | None = None

    def find(self, host: str, repository: str) -> RegistryLogin | None:
        """Return what logs in at a registry, None where no file tells."""
        keys = list(_keys(host, repository))
        for path, tree in self._files():
            for key in keys:
                found = self._of_key(path, tree, key)
                if found is not None:
                    return found
            helper = tree.get("credsStore")
            if isinstance(helper, str) and helper:
                for key in keys:
                    found = _ask_helper(path, helper, key)
                    if found is not None:
                        return found
        return None

    def _of_key(self, path: Path, tree: Mapping[str, Any], key: str) -> RegistryLogin | None:
        helpers, entries = tree.get("credHelpers"), tree.get("auths")
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return _ask_helper(path, helpers[key], key)
        entry = entries.get(key) if isinstance(entries, dict) else None
        return _entry(path, key, entry) if isinstance(entry, dict) else None

    def _files(self) -> list[tuple[Path, dict[str, Any]]]:
        if self._trees is None:
            self._trees = [
                (path, tree)
                for path in self._paths()
                if (tree := _read(path, wanted=self._authfile is not None)) is not None
            ]
        return self._trees

    def _paths(self) -> list[Path]:
        """Return the files in the order in which podman looks into them."""
        if self._authfile is not None:
            return [Path(self._authfile)]
        get = self._environment.get
        if named := get("REGISTRY_AUTH_FILE"):
            return [Path(named)]
        home = Path(get("HOME") or "/nonexistent")
        configuration = Path(get("XDG_CONFIG_HOME") or home / ".config")
        runtime = get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
        docker = Path(get("DOCKER_CONFIG") or home / ".docker")
        return [
            Path(runtime) / "containers" / "auth.json",
            configuration / "containers" / "auth.json",
            docker / "config.json",
        ]


def _keys(host: str, repository: str) -> Iterator[str]:
    parts = f"{host}/{repository}".split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join(parts[:length])
    if host == DOCKER_HUB:
        yield from _DOCKER_HUB_KEYS
    yield from (f"https://{host}", f"http://{host}", f"https://{host}/", f"https://{host}/v2/")


def _read(path: Path, *, wanted: bool) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_bytes() or b"{}")
    except OSError as error:
        if wanted:
            raise TransferError(f"{path} cannot be read: {error.strerror}") from None
        return None
    except (ValueError, RecursionError):
        raise TransferError(f"{path} is not JSON; log in again to have it written") from None
    if not isinstance(tree, dict):
        raise TransferError(f"{path} is no object of JSON; log in again to have it written")
    return tree


def _entry(path: Path, key: str, entry: Mapping[str, Any]) -> RegistryLogin | None:
    token = entry.get("registrytoken")
    if isinstance(token, str) and token:
        # With a line's end, as a file of a token has it.
        if _TOKEN.fullmatch(token.strip()) is None:
            raise TransferError(f"{path}: registrytoken of {key} is no token; log in again")
        return RegistryLogin(token=token.strip())
    identity = entry.get("identitytoken")
    if isinstance(identity, str) and identity:
        return RegistryLogin(identity_token=identity)
    username, password = entry.get("username"), entry.get("password")
    if isinstance(username, str) and isinstance(password, str) and username:
        return RegistryLogin(username, password)
    text = entry.get("auth")
    if not isinstance(text, str) or not text:
        return None
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise TransferError(f"{path}: auth of {key} is not base64; log in again") from None
    return RegistryLogin(username, password.rstrip("\0")) if colon else None


def _ask_helper(path: Path, helper: str, key: str) -> RegistryLogin | None:
    """Ask a program ``docker-credential-...``; it answers in JSON, or that it has none."""
    program = f"docker-credential-{Path(helper).name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise TransferError(f"{path} names {program}, which is not on PATH") from None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise TransferError(f"{program} fails: {type(error).__name__}") from None
    if done.returncode:
        return None
    try:
        tree = json.loads(done.stdout)
        username, secret = str(tree["Username"]), str(tree["Secret"])
    except (ValueError, LookupError, TypeError):
        raise TransferError(f"{program} answers without Username and Secret") from None
    if username == _IDENTITY_USER:
        return RegistryLogin(identity_token=secret)
    return RegistryLogin(username, secret)
