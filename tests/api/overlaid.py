# SPDX-License-Identifier: Apache-2.0
"""A registry that holds images of other builds, one that is handed them, and an upstream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from buildset_registry.overlay.document import Overlay
from buildset_registry.overlay.handing import failures, hand_over, prepare

from tests.api.harness import PASSWORD, USER, Harness, Registry

BUILD, CHANGE = "8c15" * 8, "4711,3"


def ask_for_token(holder: Registry, scopes: Iterable[str], seconds: int = 600) -> str:
    """Get a token for single images."""
    form = {"grant_type": "password", "username": USER, "password": PASSWORD}
    asked = {**form, "scope": " ".join(scopes), "expires_in": str(seconds)}
    return str(holder.anonymous.post("/token", data=asked).json()["token"])


@dataclass
class World:
    """The registries, and what hands images from one to the other."""

    harness: Harness
    holder: Registry
    buildset: Registry

    @property
    def folder(self) -> Path:
        """The folder of the overlay."""
        return self.harness.folder / "overlay"

    @property
    def host(self) -> str:
        """The registry that holds images, as messages name it."""
        return f"127.0.0.1:{self.holder.pull.base_url.port}"

    def document(self, images: dict[str, tuple[str, str]], **changes: Any) -> str:
        """Return what is handed over: by public name the repository and the digest."""
        scopes = [f"image:{repository}@{digest}:pull" for repository, digest in images.values()]
        handed = {
            "registry": {
                "host": self.host,
                "cert": self.harness.authority.cert_pem.bytes().decode(),
            },
            "token": changes.get("token") or ask_for_token(self.holder, scopes),
            "expires": time.time() + 600,
            "images": {
                name: {
                    "digest": digest,
                    "repository": repository,
                    "build": BUILD,
                    "change": CHANGE,
                }
                for name, (repository, digest) in images.items()
            },
        }
        return json.dumps({"version": 1, "handed": [{**handed, **changes}]})

    def hand(self, images: dict[str, tuple[str, str]], **changes: Any) -> list[str]:
        """Hand images over as the command does; return what it says of those that it cannot."""
        later = Overlay.parse(self.document(images, **changes), "test")
        prepare(self.folder, later)
        failed = asyncio.run(failures(later, self.folder))
        if not failed:
            hand_over(self.folder, later)
        return failed

    def put(self, name: str, text: str | bytes) -> httpx.Response:
        """Hand images of a repository over as a client of the registry does."""
        return self.buildset.push.put(f"/overlay/{name}", content=text)

    def name_holder(self, *handed: dict[str, Any]) -> None:
        """Let the command say that images may come from the holder, and hand over some."""
        one = {"host": self.host, "cert": self.harness.authority.cert_pem.bytes().decode()}
        tree = {"version": 1, "registries": [one], "handed": handed}
        known = Overlay.parse(json.dumps(tree), "test")
        prepare(self.folder, known)
        hand_over(self.folder, known)

    def asked(self, method: str, what: str) -> int:
        """Return how often the holder was asked for something, by its log."""
        return sum(
            f'"{method} ' in line and what in line
            for line in self.holder.log.read_text().splitlines()
        )

    def restart(self, **settings: Any) -> None:
        """End the buildset's registry and start one on what it has left."""
        self.buildset.stop()
        self.buildset = start(self.harness, **settings)


def start(harness: Harness, **settings: Any) -> Registry:
    """Start the buildset's registry."""
    return harness.start("buildset", overlay={"folder": "overlay"}, **settings)


def make_world(harness: Harness, **settings: Any) -> World:
    """Start both registries."""
    (harness.folder / "token.key").write_bytes(b"k" * 64)
    auth = {"token_key": "token.key", "anonymous_pull": False}
    holder = harness.start("holder", single=True, auth=auth)
    return World(harness, holder, start(harness, **settings))
