# SPDX-License-Identifier: Apache-2.0
"""buildkitd and buildx: mirrors and trust in buildkitd.toml; and builds from the canary.

BuildKit asks a mirror with ``?ns=`` as containerd does. The file in docker's folder is what buildx
gives the builders that it makes in containers, with the certificates that it names.

A build that was tried leaves the canary's word in what BuildKit says of it, since the folder that
the Dockerfile comes from is named so. BuildKit looks for a .dockerignore as well, in a folder that
no option names: a new one of that kind is ours. Nothing else of a user's cache is pruned.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files, proxies
from ..canary.image import FILE, Image
from ..edits import TEXT, Edit, Rewrite, own
from ..errors import ClientError
from ..formats import toml
from ..node import ManagedNode, option
from ..registry import CERTIFICATE_FILE, Namespace, Setup
from ..units import Unit, whole
from .base import PullError, Tool

#: The unit of the packages, and the service of Alpine.
UNITS = ("buildkit", "buildkitd")

#: The name that BuildKit gives to the folder that is built in.
_CONTEXT = "local source for context"
#: A daemon takes a moment to listen, and to let go of what a build that has ended used.
_TRIES, _PAUSE = 50, 0.1
#: The difference of two times that are told by different clocks: a process has its start in ticks
#: since the node's own, a file its change by the clock of the day, which may be set meanwhile.
_CLOCKS_SECONDS = 0.5


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure the daemon of the node, or the user's own."""
    path = settings_file(node, _unit(node).arguments)
    certificate = f"{_folder(node)}/{CERTIFICATE_FILE}"
    rewrite = mirroring(setup, path, certificate)
    settings = Edit("buildkit", path, TEXT, rewrite, action="restart")
    return [settings, own("buildkit", certificate, setup.registry.certificate)]


def _unit(node: ManagedNode) -> Unit:
    return Unit.find(node, "buildkitd", *UNITS)


def settings_file(node: ManagedNode, arguments: list[str]) -> str:
    """Tell which file a daemon with these arguments reads."""
    named = option(arguments, "config") or f"{_folder(node)}/buildkitd.toml"
    return whole(named, "buildkitd", "config")


def address(node: ManagedNode, arguments: list[str]) -> str:
    """Tell where the daemon answers; systemd's socket is at the usual place."""
    path = settings_file(node, arguments)
    content = files.read(node.real(path)) if node.exists(path) else None
    configured = toml.get(toml.load(content, path), ["grpc", "address"]) or []
    for named in [option(arguments, "addr"), *configured]:
        if named.startswith(("unix://", "tcp://")):
            return str(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{node.me.uid}"
    return f"unix://{'/run' if node.is_root else runtime}/buildkit/buildkitd.sock"


def _folder(node: ManagedNode) -> str:
    return "/etc/buildkit" if node.is_root else f"{node.me.home}/.config/buildkit"


def builders(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure the builders that each user will make with buildx.

    zuul-jobs' roles make theirs with the daemon's own file, whether the node has that or not."""
    made = edits(node, setup) if node.is_root else []
    for account in node.accounts:
        folder = f"{account.home}/.docker/buildx"
        if account == node.me:
            docker = os.environ.get("DOCKER_CONFIG")
            folder = os.environ.get("BUILDX_CONFIG") or (f"{docker}/buildx" if docker else folder)
        path, certificate = f"{folder}/buildkitd.default.toml", f"{folder}/{CERTIFICATE_FILE}"
        rewrite = mirroring(setup, path, certificate)
        made.append(Edit("buildx", path, TEXT, rewrite, account=account))
        made.append(own("buildx", certificate, setup.registry.certificate, account=account))
    return made


def mirroring(setup: Setup, path: str, certificate: str) -> Rewrite:
    """Return what puts the registry before the mirrors that there are."""

    def rewrite(before: bytes | None) -> bytes:
        content, tree = before or b"", toml.load(before, path)
        pull = setup.registry.pull
        for namespace in setup.namespaces:
            table = ["registry", namespace.name]
            known = _listed(tree, table, "mirrors", path)
            if known and known[0].partition("/")[0] in setup.registry.pulls:
                continue  # as zuul-jobs' role has it, which would put its own name first again
            others = [one for one in known if one != pull]
            content = toml.put(content, table, "mirrors", [pull, *others], path)
        for address in setup.registry.addresses:
            table = ["registry", address]
            others = [one for one in _listed(tree, table, "ca", path) if one != certificate]
            content = toml.put(content, table, "ca", [certificate, *others], path)
            if toml.get(tree, table).get("http"):  # of a registry that was there before ours
                content = toml.put(content, table, "http", False, path)
        return content

    return rewrite


def _listed(tree: dict[str, Any], table: list[str], name: str, path: str) -> list[str]:
    """Return the list that a key has; BuildKit does not start by a text in its place."""
    found = toml.get(tree, table).get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        what = f"{path}: {name} of {toml.header(table)} is no list of texts"
        raise ClientError(f"{what}; write {name} = [...] there, nothing was changed")
    return found


@dataclass(frozen=True)
class Buildctl(Tool):
    """buildctl, which has the daemon build from the canary."""

    program = "buildctl"
    asks = ("debug", "workers")
    settings: str = ""
    """The buildkitd.toml that the daemon reads."""

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn where the daemon is and what it reads; nothing where it does not answer."""
        arguments = _unit(node).arguments
        options = ("--addr", address(node, arguments))
        found = cls(path, node, options, settings=settings_file(node, arguments))
        for _try in range(_TRIES if node.processes("buildkitd") else 1):
            with suppress(PullError):
                found.run("debug", "workers")
                return found
            time.sleep(_PAUSE)
        return None

    def expected(self, image: Image) -> str:
        """Return the word that is in the image's file."""
        return image.word

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Build from the canary by each name; return the words that are in what came out."""
        before = self._contexts()
        try:
            return [self._build(image, name) for name in names]
        except PullError as error:
            # Before its reason it shows the build, in which the canary's name stands in any case.
            said = str(error).splitlines()
            raise PullError(said[-1] if said else "") from error
        finally:
            self._forget(image, before)

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Read the file that the daemon reads at its start."""
        table = toml.get(toml.read(self.node, self.settings), ["registry", namespace.name])
        return self.settings, list(table.get("mirrors", []))

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Read those that this file names for the address, whatever the registry."""
        table = ["registry", address]
        return self.settings, toml.certificates(self.node, self.settings, table)

    def unread(self) -> str:
        """Compare the time of the file with that of the daemon's start."""
        begun = self.node.started("buildkitd")
        written = self.node.real(self.settings).stat().st_mtime if begun else 0
        if written - begun < _CLOCKS_SECONDS:
            return ""
        hint = "restart it, or say how in buildset_registry_restart_commands.buildkit"
        return f"configuration: buildkitd was started before {self.settings} was written; {hint}"

    def environment(self) -> proxies.Environment:
        """Tell that of the daemon, which asks registries."""
        return proxies.of_daemon(_unit(self.node))

    def _build(self, image: Image, name: str) -> str:
        with tempfile.TemporaryDirectory() as made:
            folder, logins = Path(made, "build"), Path(made, "logins")
            folder.mkdir()
            (folder / "Dockerfile").write_text(f"FROM {name}\n", encoding="ascii")
            # buildctl leaves a seed for tokens beside the user's logins, where there is none yet.
            logins.mkdir()
            users = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
            (logins / "config.json").symlink_to(Path(users, "config.json"))
            output = self.run(
                *("build", "--frontend", "dockerfile.v0", "--progress", "plain"),
                *("--local", f"{image.word}={folder}", "--opt", f"dockerfilekey={image.word}"),
                *("--local", f"context={folder}", "--output", "type=tar"),
                variables={"DOCKER_CONFIG": str(logins)},
            )
        try:
            with tarfile.open(fileobj=io.BytesIO(output)) as tar:
                found = tar.extractfile(FILE)
                return found.read().decode("utf-8", "replace") if found else ""
        except (KeyError, tarfile.TarError):
            return ""

    def _contexts(self) -> set[str]:
        """Tell the records of folders that were built in, by their numbers."""
        told = self.run("du", "--verbose", "--filter", f'description=="{_CONTEXT}"').decode()
        return set(re.findall(r"^ID:\s*(\w+)", told, re.MULTILINE))

    def _forget(self, image: Image, before: set[str]) -> None:
        """Prune what the builds left: the cache alone where an older BuildKit lists no builds."""
        word = f"description~={image.word}"
        with suppress(PullError):
            for _try in range(_TRIES):
                new = [f"id=={number}" for number in sorted(self._contexts() - before)]
                filters = [text for one in [word, *new] for text in ("--filter", one)]
                self.run("prune", *filters)
                if b"ID:" not in self.run("du", "--verbose", *filters):
                    break
                time.sleep(_PAUSE)
            told = self.run("debug", "histories", "--format", "{{json .}}")
            for reference in _builds(told.decode("utf-8", "replace"), image.word):
                self.run("debug", "ctl", "--delete", reference)


def _builds(told: str, word: str) -> list[str]:
    """Find the canary's among the builds that are remembered."""
    records = []
    for line in told.splitlines():
        with suppress(ValueError):
            records.append(json.loads(line).get("record", {}))
    named = [(one.get("FrontendAttrs") or {}, one.get("Ref")) for one in records]
    return [str(found) for given, found in named if given.get("dockerfilekey") == word]
