# SPDX-License-Identifier: Apache-2.0
"""Pages as people see them: in headless Chromium, wide and narrow, light and dark.

The browser is told what to do by its own protocol, over a pair of pipes (the DevTools protocol by
``--remote-debugging-pipe``): messages are JSON that ends in NUL. axe-core looks for what keeps
people from using a page.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stores.programs import npm_folder

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: Nothing is asked of anybody, and nothing is kept.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
#: Pixels of a window, and of the tallest one that is looked at as a whole.
_HEIGHT, _TALLEST = 900, 12_000
#: Seconds that the browser may take for one thing.
_SECONDS = 60
#: Descriptors that are free for sure in a shell.
_FREE = 10
_AXE = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
    "one => one.id + ': ' + one.help + ': ' + one.nodes.map(node => node.html).join(' ')))"
)
_TALL = "document.documentElement.scrollHeight"
_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@dataclass
class ShownPage:
    """A page in one width and scheme, and what there is to say against it."""

    width: int
    scheme: str
    errors: list[str] = field(default_factory=list)
    """What is on the console."""

    requests: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """What axe-core found."""

    wider: bool = False
    """Whether the page as a whole has to be scrolled sideways."""

    picture: bytes = b""

    def faults(self, *allowed: str) -> list[str]:
        """Return all that is wrong; requests may go to URLs that begin with one of these."""
        elsewhere = [f"asks for {url}" for url in self.requests if not url.startswith(allowed)]
        wider = ["is wider than the window"] if self.wider else []
        where = f"{self.width} pixels, {self.scheme}"
        found = [*self.errors, *elsewhere, *self.violations, *wider]
        return [f"{where}: {one}" for one in found]


class Browser:
    """A running browser."""

    def __init__(self, writing: int, reading: int) -> None:
        self._writing = writing
        self._reading = reading
        self._numbers = itertools.count(1)
        self._raw = b""
        self._events: list[dict[str, Any]] = []

    def show(self, url: str, width: int, scheme: str) -> ShownPage:
        """Open a page and look at it."""
        target, session = self._tab()
        shown = ShownPage(width, scheme)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", session)
        self._resize(session, width, _HEIGHT)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", session, features=media)
        self._call("Page.navigate", session, url=url)
        self._wait("Page.loadEventFired")
        # What is out of sight is not drawn, and so not looked at.
        self._resize(session, width, min(_TALLEST, self._run(session, _TALL)))
        shown.wider = self._run(session, _WIDER)
        self._run(session, axe())
        shown.violations = self._run(session, _AXE)
        shown.picture = base64.b64decode(self._call("Page.captureScreenshot", session)["data"])
        self._call("Target.closeTarget", targetId=target)
        for event in self._events:
            _note(event, shown)
        return shown

    def load(self, url: str) -> float:
        """Open a page; returns the seconds of a processor until all of it was there."""
        target, session = self._tab()
        self._call("Page.enable", session)
        self._call("Performance.enable", session, timeDomain="threadTicks")
        self._call("Page.navigate", session, url=url)
        self._wait("Page.loadEventFired")
        metrics = self._call("Performance.getMetrics", session)["metrics"]
        self._call("Target.closeTarget", targetId=target)
        return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    def close(self) -> None:
        """End it."""
        self._call("Browser.close")

    def _tab(self) -> tuple[str, str]:
        """Open a tab of which nothing has been heard yet; return its target and the session."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._events.clear()
        return target, session

    def _resize(self, session: str, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", session, **size)

    def _run(self, session: str, script: str) -> Any:
        words = {"expression": script, "awaitPromise": True, "returnByValue": True}
        done = self._call("Runtime.evaluate", session, **words)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def _call(self, method: str, session: str = "", /, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        raw = json.dumps(message).encode() + b"\0"
        while raw:
            raw = raw[os.write(self._writing, raw) :]
        while (answer := self._next()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, f"{method}: {answer}"
        return dict(answer["result"])

    def _wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._raw:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._reading], [], [], left)[0], "the browser does not answer"
            more = os.read(self._reading, 1 << 20)
            assert more, "the browser has ended"
            self._raw += more
        raw, _end, self._raw = self._raw.partition(b"\0")
        return dict(json.loads(raw))


def _note(event: dict[str, Any], shown: ShownPage) -> None:
    """Take what an event tells against a page."""
    told = event.get("params", {})
    match event.get("method"):
        case "Runtime.exceptionThrown":
            shown.errors.append(json.dumps(told["exceptionDetails"]))
        case "Runtime.consoleAPICalled":
            shown.errors.append(json.dumps(told["args"]))
        case "Log.entryAdded":
            shown.errors.append(told["entry"]["text"])
        case "Network.requestWillBeSent":
            shown.requests.append(told["request"]["url"])


def axe() -> str:
    """Return axe-core, at its pinned version."""
    return (npm_folder("axe") / "node_modules" / "axe-core" / "axe.min.js").read_text()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Run a browser that has nothing of anybody's, and leaves nothing."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "there is no Chromium: run tools/ensure-packages test"
    with tempfile.TemporaryDirectory(
        prefix="buildset-browser-", ignore_cleanup_errors=True
    ) as home:
        words = [program, *OPTIONS, f"--user-data-dir={home}/data", "about:blank"]
        environment = {**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home}
        theirs, ours = zip(*(_ends(writing) for writing in (True, False)), strict=True)
        # It wants its ends as descriptors 3 and 4.
        script = f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        with Path(home, "log").open("w") as log:
            process = subprocess.Popen(
                ["bash", "-c", script, "browser", *words],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        for end in theirs:
            os.close(end)
        try:
            browser = Browser(*ours)
            yield browser
            browser.close()
            process.wait(_SECONDS)
        finally:
            process.kill()
            process.wait()
            for end in ours:
                os.close(end)


def _ends(writing: bool) -> tuple[int, int]:
    """Return the browser's end of a pipe and ours, which writes or reads."""
    reading, written = os.pipe()
    theirs, ours = (reading, written) if writing else (written, reading)
    moved = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(theirs)
    return moved, ours
