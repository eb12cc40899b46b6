# SPDX-License-Identifier: Apache-2.0
"""Clients that push large blobs and pull them back, all at once; what matters is the memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.reliability.server import LOGIN, MIB, Server

CLIENTS = 20
_PIECE = MIB


@dataclass(frozen=True)
class Outcome:
    """Sizes in MiB, time in seconds."""

    size: int
    seconds: float
    idle: float
    peak: float

    @property
    def figures(self) -> str:
        return (
            f"{CLIENTS} clients pushed and pulled {self.size} MiB each in {self.seconds:.0f} s; "
            f"memory {self.idle:.0f} MiB idle, {self.peak:.0f} MiB at its peak"
        )


def run(serve: Callable[..., Server], size: int) -> Outcome:
    """Let every client push ``size`` MiB and pull them back."""
    server = serve()
    idle, begun = server.memory(), time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for equal in pool.map(lambda number: _round_trip(server, number, size), range(CLIENTS)):
            assert equal
    return Outcome(size, time.monotonic() - begun, idle, server.memory("VmHWM"))


def _round_trip(server: Server, number: int, size: int) -> bool:
    """Push a blob that no other client has, pull it, and tell whether it is the same."""
    client, seed = server.client(), os.urandom(_PIECE)
    hashed = hashlib.sha256()
    for piece in _pieces(seed, size):
        hashed.update(piece)
    digest, name = f"sha256:{hashed.hexdigest()}", f"large/{number}"
    place = client.ask("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    length = {"Content-Length": str(size * MIB)}
    pushed = client.ask("PUT", f"{place}?digest={digest}", _pieces(seed, size), length)
    assert pushed.status == 201, pushed.content
    client.close()
    client.connection.request("GET", f"/v2/{name}/blobs/{digest}", headers=LOGIN)
    answer, pulled = client.connection.getresponse(), hashlib.sha256()
    while piece := answer.read(_PIECE):
        pulled.update(piece)
    client.close()
    return pulled.hexdigest() == hashed.hexdigest()


def _pieces(seed: bytes, size: int) -> Iterator[bytes]:
    for number in range(size):
        yield number.to_bytes(8, "big") + seed[8:]
