# SPDX-License-Identifier: Apache-2.0
"""BuildKit builds from the canary by its public names, and forgets what it has built.

What a build leaves has the canary's word in what BuildKit says of it, since the folder that the
Dockerfile comes from is named so. BuildKit looks for a .dockerignore as well, in a folder that no
option names: what there is new of that kind is ours. Nothing else of a user's cache is pruned.
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
from dataclasses import replace
from pathlib import Path

from . import buildkit
from .canary import FILE, Image
from .client import Client, PullError
from .daemons import Daemons
from .node import Node

#: What BuildKit calls the folder that is built in.
_CONTEXT = "local source for context"
#: A daemon takes a moment to listen, and to let go of what a build that has ended used.
_TRIES, _PAUSE = 50, 0.1


def that_answers(client: Client, node: Node) -> Client | None:
    """Learn where the daemon is and what it reads; nothing where it does not answer."""
    daemons = Daemons(node, {})
    arguments = daemons.arguments("buildkitd")
    settings = buildkit.settings_file(node, arguments)
    options = ("--addr", buildkit.address(node, arguments))
    found = replace(client, settings=settings, options=options)
    for _try in range(_TRIES if daemons.runs("buildkit") else 1):
        with suppress(PullError):
            found.run("debug", "workers")
            return found
        time.sleep(_PAUSE)
    return None


def build(client: Client, image: Image, names: Sequence[str]) -> list[str]:
    """Build from the canary by each name; return the words that are in what came out."""
    before = _contexts(client)
    try:
        return [_build(client, image, name) for name in names]
    except PullError as error:
        # Before its reason it shows the build, in which the canary's name stands in any case.
        said = str(error).splitlines()
        raise PullError(said[-1] if said else "") from error
    finally:
        _forget(client, image, before)


def _build(client: Client, image: Image, name: str) -> str:
    with tempfile.TemporaryDirectory() as made:
        folder, logins = Path(made, "build"), Path(made, "logins")
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {name}\n", encoding="ascii")
        # buildctl leaves a seed for tokens beside the user's logins, where there is none yet.
        logins.mkdir()
        own = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
        (logins / "config.json").symlink_to(Path(own, "config.json"))
        output = client.run(
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


def _contexts(client: Client) -> set[str]:
    """Tell the records of folders that were built in, by their numbers."""
    told = client.run("du", "--verbose", "--filter", f'description=="{_CONTEXT}"').decode()
    return set(re.findall(r"^ID:\s*(\w+)", told, re.MULTILINE))


def _forget(client: Client, image: Image, before: set[str]) -> None:
    """Prune what the builds left; of an older BuildKit, which lists no builds, the cache alone."""
    word = f"description~={image.word}"
    with suppress(PullError):
        for _try in range(_TRIES):
            new = [f"id=={number}" for number in sorted(_contexts(client) - before)]
            filters = [text for one in [word, *new] for text in ("--filter", one)]
            client.run("prune", *filters)
            if b"ID:" not in client.run("du", "--verbose", *filters):
                break
            time.sleep(_PAUSE)
        told = client.run("debug", "histories", "--format", "{{json .}}")
        for reference in _builds(told.decode("utf-8", "replace"), image.word):
            client.run("debug", "ctl", "--delete", reference)


def _builds(told: str, word: str) -> list[str]:
    """Find the canary's among the builds that are remembered."""
    records = []
    for line in told.splitlines():
        with suppress(ValueError):
            records.append(json.loads(line).get("record", {}))
    named = [(one.get("FrontendAttrs") or {}, one.get("Ref")) for one in records]
    return [str(found) for given, found in named if given.get("dockerfilekey") == word]
