# SPDX-License-Identifier: Apache-2.0
"""Counts of what a request touches in the registry, by a profiler around its ASGI applications.

``python tools/walk.py`` starts the registry of this checkout without sockets, sends requests to its
applications, and prints for each of them: how many functions and files of the package it calls, how
often it goes back to a file that it had left, and how deep the calls are, from the application's
own to the last one that opens or looks for a file: of a blob's GET the blob's own. ``--source DIR``
walks the package below another folder; what it relies on is the command line, the configuration
file and the ASGI protocol, which stay as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import inspect
import json
import os
import signal
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import bcrypt
from aiohttp import web
from granian.server import embed

TOP = Path(__file__).resolve().parent.parent
PACKAGE = "buildset_registry"
#: Two, since a registry does some things when it asks any upstream for the first time.
UPSTREAMS = ("first", "second")
MISSES = ("miss of a blob", "miss of a manifest by tag")
USER, PASSWORD = "walker", "correct horse"
LOGIN = {"authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER, LATER = b"a layer" * 40_000, b"another" * 40_000
#: Python 3.12 and newer run these without a call.
INLINED = ("<listcomp>", "<setcomp>", "<dictcomp>")
#: What looks for a file or opens one.
FILE_CALLS = ("open", "stat", "lstat")
#: What goes on by itself every now and then, whoever asks.
PERIODIC = "server/connections.py:run"
#: Seconds for what goes on after an answer: a download is linked when its client has it already.
AFTERWARDS = 0.3


@dataclass(frozen=True)
class Count:
    """What one request touched; ``depth`` is 0 where it asked for no file."""

    functions: int
    files: int
    returns: int
    depth: int


@dataclass
class Profile:
    """The calls of the package's functions while one request is answered, in every thread."""

    package: str
    entry: CodeType
    calls: list[CodeType] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    """From the application to the last call that opens or looks for a file."""

    def __enter__(self) -> Profile:
        Hook.profile = self
        sys.setprofile(Hook.call)
        return self

    def __exit__(self, *raised: object) -> None:
        sys.setprofile(None)
        Hook.profile = None

    def add(self, frame: FrameType, event: str, called: Any) -> None:
        """Take an event of ``sys.setprofile``."""
        counts = event == "call" and self._counts(frame.f_code)
        if counts and PERIODIC not in self._chain(frame):
            self.calls.append(frame.f_code)
        elif event == "c_call" and getattr(called, "__name__", "") in FILE_CALLS:
            self._open(frame)

    def count(self) -> Count:
        """Sum up."""
        names = [code.co_filename for code in self.calls]
        return Count(len(set(self.calls)), len(set(names)), returns(names), len(self.chain))

    def _counts(self, code: CodeType) -> bool:
        """Tell whether it is a function of the package, not the body of a module or class."""
        function = code.co_flags & inspect.CO_OPTIMIZED and code.co_name not in INLINED
        return bool(function) and code.co_filename.startswith(self.package)

    def _open(self, frame: FrameType | None) -> None:
        if frame is None or "importlib" in frame.f_code.co_filename:
            return
        chain = self._chain(frame)
        if chain and chain[-1] == self._name(self.entry):
            self.chain = chain[::-1]

    def _chain(self, frame: FrameType | None) -> list[str]:
        """Return the package's functions from a call up to the application's, or all there are."""
        chain: list[str] = []
        while frame is not None:
            if self._counts(frame.f_code):
                chain.append(self._name(frame.f_code))
            if frame.f_code is self.entry:
                break
            frame = frame.f_back
        return chain

    def _name(self, code: CodeType) -> str:
        return f"{code.co_filename.removeprefix(f'{self.package}/')}:{code.co_name}"


class Hook:
    """The profiler of all threads, which hands events to the profile that is being taken."""

    profile: Profile | None = None

    @classmethod
    def call(cls, frame: FrameType, event: str, called: Any) -> None:
        """Be called by Python."""
        if cls.profile is not None:
            cls.profile.add(frame, event, called)


def returns(names: list[str]) -> int:
    """Count how often a file comes again after another one.

    >>> returns(["a", "a", "b", "a", "c", "b"])
    2
    """
    visits = [name for at, name in enumerate(names) if not at or names[at - 1] != name]
    return len(visits) - len(set(visits))


@dataclass(frozen=True)
class Ports:
    """Where the endpoints would listen, and where upstream does."""

    pull: int
    push: int
    upstream: int

    @classmethod
    def free(cls) -> Ports:
        """Choose three that nobody listens on."""
        probes = [socket.create_server(("127.0.0.1", 0)) for _number in range(3)]
        numbers = [probe.getsockname()[1] for probe in probes]
        for probe in probes:
            probe.close()
        return cls(*numbers)


@dataclass(frozen=True)
class Request:
    """A request to be sent."""

    method: str
    url: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def scope(self) -> dict[str, Any]:
        """Return it as ASGI has it."""
        path, _mark, query = self.url.partition("?")
        headers = {"host": "127.0.0.1", "content-length": str(len(self.body)), **self.headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
            "extensions": {"http.response.pathsend": {}},
        }


class Walk:
    """The registry's applications by their ports, and what was seen of each request."""

    def __init__(self, ports: Ports, package: str) -> None:
        self.applications: dict[int, Any] = {}
        self.profiles: dict[str, Profile] = {}
        self.ports = ports
        self._package = package
        self._counting = False

    async def ask(self, title: str, port: int, request: Request) -> Mapping[str, str]:
        """Send a request and return the answer's headers; count what it touches, in its turn."""
        application = self.applications[port]
        sent: list[dict[str, Any]] = []
        bodies = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not bodies:
                await asyncio.Event().wait()
            return bodies.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        profile = Profile(self._package, type(application).__call__.__code__)
        with profile if self._counting else nullcontext():
            await application(request.scope(), receive, send)
            if title in MISSES:
                await asyncio.sleep(AFTERWARDS)
        if self._counting:
            self.profiles[title] = profile
        if sent[0]["status"] >= 400:
            raise SystemExit(f"{title}: {sent[0]['status']}, {sent[1:]}")
        return {name.decode(): value.decode() for name, value in sent[0]["headers"]}

    async def requests(self) -> None:
        """Send each kind of request twice: what is done but once is done when counting begins."""
        runner = web.ServerRunner(web.Server(upstream_answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.ports.upstream).start()
        for name in UPSTREAMS:
            await self._push(name)
            await self._pull(f"/v2/{name}", "pushed", LAYER)
            await self._pull_through(f"/v2/{name}.example/image")
            self._counting = True
        await runner.cleanup()

    async def _push(self, name: str) -> None:
        """Push an image in pieces and give it the tag ``latest``."""
        for content in (b"{}", LAYER):
            begin = Request("POST", f"/v2/{name}/blobs/uploads/", headers=LOGIN)
            place = (await self.ask("POST of an upload", self.ports.push, begin))["location"]
            piece = Request("PATCH", place, content, LOGIN)
            await self.ask("PATCH of an upload", self.ports.push, piece)
            end = Request("PUT", f"{place}?digest={digest(content)}", headers=LOGIN)
            await self.ask("PUT of an upload", self.ports.push, end)
        headers = {**LOGIN, "content-type": MANIFEST_TYPE}
        put = Request("PUT", f"/v2/{name}/manifests/latest", manifest(LAYER), headers)
        await self.ask("PUT of a manifest by tag", self.ports.push, put)

    async def _pull(self, base: str, kind: str, layer: bytes) -> None:
        tag, blob = f"{base}/manifests/latest", f"{base}/blobs/{digest(layer)}"
        for title, url in ((f"manifest by tag, {kind}", tag), (f"blob, {kind}", blob)):
            await self.ask(f"GET of a {title}", self.ports.pull, Request("GET", url))

    async def _pull_through(self, base: str) -> None:
        layer = LATER if self._counting else LAYER
        urls = f"{base}/blobs/{digest(layer)}", f"{base}/manifests/latest"
        for title, url in zip(MISSES, urls, strict=True):
            await self.ask(title, self.ports.pull, Request("GET", url))
        await self._pull(base, "pulled through", layer)


def digest(content: bytes) -> str:
    """Return the digest of content as text."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(*layers: bytes) -> bytes:
    """Return the manifest of an image."""

    def descriptor(content: bytes, kind: str) -> dict[str, Any]:
        return {"mediaType": kind, "digest": digest(content), "size": len(content)}

    kind = "application/vnd.oci.image"
    tree = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(b"{}", f"{kind}.config.v1+json"),
        "layers": [descriptor(layer, f"{kind}.layer.v1.tar") for layer in layers],
    }
    return json.dumps(tree).encode()


async def upstream_answer(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as a registry that has one image of two layers under every name."""
    if "/manifests/" in request.path:
        return web.Response(body=manifest(LAYER, LATER), content_type=MANIFEST_TYPE)
    found = [each for each in (b"{}", LAYER, LATER) if request.path.endswith(digest(each))]
    return web.Response(body=found[0]) if found else web.Response(status=404)


def server_of(walk: Walk) -> type:
    """Return what stands in for Granian's server: it opens no port, and one of them walks."""

    class Server:
        def __init__(self, application: Any, address: str, port: int, **settings: Any) -> None:
            walk.applications[port] = application
            self._walks = port == walk.ports.push
            self._stopped = asyncio.Event()

        async def serve(self) -> None:
            if self._walks:
                try:
                    await walk.requests()
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
            await self._stopped.wait()

        def stop(self) -> None:
            self._stopped.set()

    return Server


def configuration(folder: Path, ports: Ports) -> Path:
    """Write the registry's configuration; JSON is YAML, too."""
    users = folder / "htpasswd"
    users.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    url = f"http://127.0.0.1:{ports.upstream}"
    tree = {
        "endpoints": {
            "pull": {"port": ports.pull, "address": "127.0.0.1"},
            "push": {"port": ports.push, "address": "127.0.0.1"},
        },
        "storage": str(folder / "data"),
        "auth": {"htpasswd": str(users)},
        "upstreams": [{"name": f"{name}.example", "url": url} for name in UPSTREAMS],
        "log": {"file": str(folder / "log")},
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(tree))
    return path


def profiles(source: Path) -> dict[str, Profile]:
    """Start the registry whose package is below a folder, send the requests, and end it."""
    sys.path.insert(0, str(source))
    walk = Walk(Ports.free(), str(source / PACKAGE))
    threading.setprofile(Hook.call)
    # The registry looks the class up when its own module is loaded, which is later.
    server = mock.patch.object(embed, "Server", server_of(walk))
    with server, TemporaryDirectory(prefix="walk-") as folder:
        path = configuration(Path(folder), walk.ports)
        command_line = import_module(f"{PACKAGE}.cli")
        if command_line.main(["serve", "--config", str(path)]):
            raise SystemExit("the registry did not start")
    return walk.profiles


def main(words: list[str]) -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="tools/walk.py", description=__doc__)
    parser.add_argument("--source", type=Path, default=TOP / "registry" / "src")
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument("--chains", action="store_true", help="the calls down to a file, too")
    chosen = parser.parse_args(words)
    found = profiles(chosen.source.resolve())
    if chosen.json:
        print(json.dumps({title: asdict(profile.count()) for title, profile in found.items()}))
        return
    print(f"{'':<40}{'functions':>10}{'files':>8}{'returns':>9}{'depth':>7}")
    for title, profile in found.items():
        one = profile.count()
        print(f"{title:<40}{one.functions:>10}{one.files:>8}{one.returns:>9}{one.depth or '-':>7}")
        for call in profile.chain if chosen.chains else ():
            print(f"    {call}")


if __name__ == "__main__":
    main(sys.argv[1:])
