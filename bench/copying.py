# SPDX-License-Identifier: Apache-2.0
"""Copies from registry to registry by this project's command, skopeo and crane, one after another.

usage: python -m bench copies [CASE ...]. Both registries are this project's; the destination is a
fresh one for each copy. ``far`` wants root, for a network namespace with a wire of 50 ms in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.client import MANIFEST_TYPE, Refused
from bench.content import Content, Image
from bench.distance import FAR, NEAR, far
from bench.identity import BASIC, Identity
from bench.instances import Instance, running
from bench.peers import PEERS
from bench.processes import children_seconds
from bench.report import number

NAME = "bench/copied"
_LOCAL = "127.0.0.1"
_ROUND_TRIP = 0.05
_OURS = "ours"


@dataclass(frozen=True)
class Copy:
    """A copy to be made, and the files by which a client may."""

    source: str
    destination: str
    authority: Path
    login: Path


def _ours(copy: Copy) -> list[str]:
    trust = ["--source-ca", str(copy.authority), "--dest-ca", str(copy.authority)]
    program = [sys.executable, "-m", "buildset_registry", "copy", "--json", *trust]
    return [*program, "--authfile", str(copy.login), copy.source, copy.destination]


def _skopeo(copy: Copy) -> list[str]:
    words = ["skopeo", "--insecure-policy", "copy", "--all", "--quiet", "--preserve-digests"]
    images = [f"docker://{one}" for one in (copy.source, copy.destination)]
    return [*words, "--authfile", str(copy.login), *images]


def _crane(copy: Copy) -> list[str]:
    return ["crane", "copy", copy.source, copy.destination]


CLIENTS: dict[str, Callable[[Copy], list[str]]] = {
    _OURS: _ours,
    "skopeo": _skopeo,
    "crane": _crane,
}


def _mixed() -> list[int]:
    """Sizes of forty layers: 65 % below 1 MB, the others below 8 MB."""
    chance = random.Random("forty layers")
    bounds = [(10_000, 10**6)] * 26 + [(10**6, 8 * 10**6)] * 14
    sizes = [chance.randint(*one) for one in bounds]
    chance.shuffle(sizes)
    return sizes


@dataclass(frozen=True)
class Case:
    """An image, how far away its registries are, and what is to be reached."""

    title: str
    sizes: Sequence[int]
    round_trip: float
    targets: dict[str, float]


CASES = {
    "far": Case("40 layers, round trip of 50 ms", _mixed(), _ROUND_TRIP, {"skopeo": 3}),
    "near": Case("10 layers of 100 MB", [10**8] * 10, 0.0, {"skopeo": 1.5, "crane": 1.2}),
}


@dataclass
class Table:
    """What was measured: seconds, and seconds of processor time, by client and round."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, client: str) -> list[float]:
        """Return how many times longer a client took than this project's command, by round."""
        return [a / b for a, b in zip(self.seconds[client], self.seconds[_OURS], strict=True)]

    def lines(self) -> Iterator[str]:
        """Yield a line for each client: medians, and ratios with their spread."""
        yield f"{self.case.title}; this project's command by {ssl.OPENSSL_VERSION}"
        for client, series in self.seconds.items():
            line = f"  {client:<8}{number(median(series)):>7} s"
            line += f", {number(median(self.cpu[client]))} s of processor time"
            if client != _OURS:
                ratios = self.ratios(client)
                line += f"; x{number(median(ratios))} ours"
                line += f" ({number(min(ratios))}-{number(max(ratios))})"
                line += self._verdict(client, median(ratios))
            yield line

    def _verdict(self, client: str, ratio: float) -> str:
        target = self.case.targets.get(client)
        if target is None:
            return ""
        return f"; at least x{target:g}: {'met' if ratio >= target else 'NOT met'}"


def main(words: Sequence[str]) -> int:
    """Measure the cases, each in a process of its own where it wants another network."""
    chosen = _parse(words)
    for name in chosen.cases:
        case = CASES[name]
        if case.round_trip and not chosen.within:
            again = [sys.executable, "-m", "bench", "copies", name, "--within", *_options(chosen)]
            if subprocess.run(["unshare", "--net", *again], check=False).returncode:
                return 1
            continue
        table = measure(case, chosen.folder.resolve() / name, chosen.rounds, chosen.scale)
        print("\n".join(table.lines()), flush=True)
        told = {"seconds": table.seconds, "cpu": table.cpu}
        (chosen.folder / f"copies-{name}.json").write_text(json.dumps(told, indent=1))
    return 0


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=copies", description=__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", type=_case, default=[*CASES], help=", ".join(CASES))
    add("--rounds", type=int, default=5, help="copies by each client")
    add("--scale", type=float, default=1.0, help="of the layers' sizes")
    add("--folder", type=Path, default=Path("build", "bench"))
    add("--within", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _case(text: str) -> str:
    if text not in CASES:
        raise argparse.ArgumentTypeError(f"no {text}; there are: {', '.join(CASES)}")
    return text


def _options(chosen: argparse.Namespace) -> list[str]:
    words = ["--rounds", str(chosen.rounds), "--scale", str(chosen.scale)]
    return [*words, "--folder", str(chosen.folder)]


def measure(case: Case, folder: Path, rounds: int, scale: float) -> Table:
    """Copy by each client in turn, and let another one begin in each round."""
    listening, address = (NEAR, FAR) if case.round_trip else (_LOCAL, _LOCAL)
    identity = Identity.make(folder / "identity", NEAR, FAR)
    peer = next(one for one in PEERS if one.name == _OURS)
    sizes = [max(64, round(size * scale)) for size in case.sizes]
    image = Content(folder / "content", 0, "copies").layers("copied", sizes)
    table = Table(case, {name: [] for name in CLIENTS}, {name: [] for name in CLIENTS})
    with (
        _distance(case.round_trip),
        running(peer, folder / "source", identity, address=listening) as source,
    ):
        source.give(NAME, "latest", image)
        for turn in range(rounds):
            first = turn % len(CLIENTS)
            for name in [*CLIENTS][first:] + [*CLIENTS][:first]:
                with running(peer, folder / "destination", identity, address=listening) as to:
                    seconds, cpu = _copy(name, (source, to), address, image)
                table.seconds[name].append(seconds)
                table.cpu[name].append(cpu)
                print(f"{turn + 1} {name:<8}{seconds:8.2f} s", flush=True)
    return table


@contextmanager
def _distance(round_trip: float) -> Iterator[None]:
    if not round_trip:
        yield
        return
    with far(round_trip):
        yield


def _copy(
    name: str, ends: tuple[Instance, Instance], address: str, image: Image
) -> tuple[float, float]:
    """Copy by a client; returns its seconds, and those of processor time."""
    source, to = ends
    login = to.place.folder / "login" / "config.json"
    login.parent.mkdir()
    auth = {"auth": BASIC.removeprefix("Basic ")}
    login.write_text(json.dumps({"auths": {f"{address}:{to.place.push_port}": auth}}))
    copy = Copy(
        f"{address}:{source.place.pull_port}/{NAME}:latest",
        f"{address}:{to.place.push_port}/{NAME}:latest",
        source.place.identity.authority,
        login,
    )
    trust = {"SSL_CERT_FILE": str(copy.authority), "DOCKER_CONFIG": str(login.parent)}
    # skopeo remembers blobs, and this command uploads, in the home.
    environment = {**os.environ, **trust, "HOME": str(login.parent)}
    used, started = children_seconds(), time.perf_counter()
    done = subprocess.run(CLIENTS[name](copy), capture_output=True, text=True, env=environment)
    taken = time.perf_counter() - started, children_seconds() - used
    if done.returncode:
        raise Refused(f"{name}: {(done.stderr or done.stdout)[-300:]}")
    _check(name, to, image)
    return taken


def _check(name: str, to: Instance, image: Image) -> None:
    """See that everything has arrived."""
    headers: dict[str, Any] = {"Accept": MANIFEST_TYPE}
    with to.puller() as client:
        client.expect(200, "GET", f"/v2/{NAME}/manifests/latest", headers=headers)
        if not all(client.has_blob(NAME, layer) for layer in image.layers):
            raise Refused(f"{name} left a layer behind")
