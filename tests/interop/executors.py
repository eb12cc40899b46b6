# SPDX-License-Identifier: Apache-2.0
"""Many images by many executors at once, through one intermediate registry on an object store."""

from __future__ import annotations

import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildset_images import carry
from buildset_images.transfers import CarryOptions

from bench.processes import watched
from tests.interop.content import Pusher, digest_of
from tests.interop.registries import PASSWORD, USER, Identity, Program, Storage

REPORT = Path(__file__).parents[2] / "build" / "reports" / "executors.txt"


@dataclass(frozen=True)
class Scale:
    """How many images, by how many executors, and the bytes of a layer of each."""

    images: int
    executors: int
    layer: int


@dataclass(frozen=True)
class Outcome:
    """What it took, and what went wrong."""

    scale: Scale
    seconds: float
    peak_mib: float
    errors: list[str]
    wrong: list[str]

    @property
    def figures(self) -> str:
        """Tell them in a line."""
        scale = self.scale
        return (
            f"{scale.images} images with a layer of {scale.layer:,} bytes, pushed and pulled by "
            f"{scale.executors} executors at once: {self.seconds:.1f} s, "
            f"the registry's memory at its peak {self.peak_mib:.0f} MiB, "
            f"{len(self.errors)} errors, {len(self.wrong)} wrong digests"
        )


def run(program: Program, storage: Storage, identity: Identity, scale: Scale) -> Outcome:
    """Push by each executor its part, and pull it into the registry of another buildset."""
    folder = identity.folder
    trust = "".join(map(ssl.DER_cert_to_PEM_cert, identity.trust.get_ca_certs(binary_form=True)))
    with (
        program.serving(folder / "first", identity) as first,
        program.serving(folder / "second", identity) as second,
        program.running(storage, identity) as (middle, process),
    ):
        made = _make(Pusher(first), scale)
        facts = [_facts(one.base_url.port, trust) for one in (first, middle, second)]
        parts = [[*made][at :: scale.executors] for at in range(scale.executors)]
        started = time.perf_counter()
        with watched(process.pid) as usage, ThreadPoolExecutor(scale.executors) as pool:
            told = list(pool.map(lambda part: _carry(part, *facts), parts))
        seconds = time.perf_counter() - started
        wrong = [
            name
            for name, digest in made.items()
            if digest_of(second.get(f"/v2/{name}/manifests/latest").content) != digest
        ]
    errors = [line for lines in told for line in lines]
    return Outcome(scale, seconds, usage.peak_mib, errors, wrong)


def write(outcome: Outcome) -> None:
    """Leave the figures where reports are."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(f"{outcome.figures}\n")


def _make(pusher: Pusher, scale: Scale) -> dict[str, str]:
    """Push images of which each has a layer of its own, and another that all have."""
    made = {}
    for number in range(scale.images):
        name = f"quay.io/org/image{number}"
        kinds = "application/vnd.oci.image"
        parts = (
            b'{"os": "linux", "architecture": "amd64"}',
            b"base" * 1000,
            os.urandom(scale.layer),
        )
        config, *layers = [
            {
                "mediaType": f"{kinds}.layer.v1.tar",
                "digest": pusher.blob(name, one),
                "size": len(one),
            }
            for one in parts
        ]
        config["mediaType"] = f"{kinds}.config.v1+json"
        tree = {
            "schemaVersion": 2,
            "mediaType": f"{kinds}.manifest.v1+json",
            "config": config,
            "layers": layers,
        }
        made[name] = pusher.manifest(name, tree, "latest")
    return made


def _facts(port: int | None, cert: str) -> dict[str, Any]:
    login = {"username": USER, "password": PASSWORD, "cert": cert}
    return {"host": "127.0.0.1", "port": port, **login}


def _carry(part: list[str], *facts: dict[str, Any]) -> list[str]:
    """Do what the roles' module does on one executor; return what went wrong."""
    first, middle, second = facts
    build = os.urandom(16).hex()
    common: dict[str, Any] = {
        "images_variable": "container_images",
        "build": build,
        "returned": [],
        "intermediate_registry": middle,
        "registries": [],
        "promotion": None,
    }
    images = [{"repository": name, "tags": ["latest"]} for name in part]
    given = {"images": images, "artifacts": [], "buildset_registry": first}
    pushed = carry.work({**common, **given, "action": "push"}, CarryOptions())
    given = {"images": [], "artifacts": pushed["artifacts"], "buildset_registry": second}
    pulled = carry.work({**common, **given, "action": "pull"}, CarryOptions())
    return [*pushed["errors"], *pulled["errors"]]
