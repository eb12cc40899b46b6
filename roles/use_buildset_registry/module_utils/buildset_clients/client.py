# SPDX-License-Identifier: Apache-2.0
"""A client of the node by which the canary is tried, and what it says where it fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from .registry import DOCKER_HUB, Namespace

_SECONDS = 60


class PullError(Exception):
    """A client that did not get the canary; the words are the client's own."""


@dataclass(frozen=True)
class Client:
    """A program, and the configuration that it goes by."""

    program: str
    family: str
    path: str
    hub_only: bool = False
    folder: str = ""
    """Where it reads containerd's hosts.toml files, if it does."""

    settings: str = ""
    """The buildkitd.toml that its daemon reads, if it is BuildKit's."""

    options: tuple[str, ...] = ()
    """What stands before every command, such as where its daemon is."""

    def takes(self, namespace: Namespace) -> bool:
        """Tell whether it can have a mirror for the registry."""
        return namespace.name == DOCKER_HUB or not self.hub_only

    def run(self, *words: str, variables: Mapping[str, str] | None = None) -> bytes:
        """Run it, with further variables in its environment; PullError is what it says."""
        try:
            done = subprocess.run(
                [self.path, *self.options, *words],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(variables or {})},
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PullError(f"it takes longer than {_SECONDS} s") from error
        if done.returncode != 0:
            raise PullError(done.stderr.decode("utf-8", "replace").strip())
        return done.stdout
