# SPDX-License-Identifier: Apache-2.0
"""Clients written in C, so that the client is not what is measured: wrk, ab and curl."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import MANIFEST_TYPE, Refused

_LUA = Path(__file__).resolve().parent / "lua"
_CONNECTIONS = 16
#: Of a thousand answers, how many may be errors before a figure is worth nothing.
_ERRORS = 10


@dataclass(frozen=True)
class Rate:
    """Requests that were answered, and the seconds it took."""

    requests: int
    seconds: float
    errors: int = 0

    @property
    def a_second(self) -> float:
        """The rate; raises ``Refused`` where too much was answered by errors."""
        if not self.requests or self.errors * 1000 > self.requests * _ERRORS:
            raise Refused(f"{self.errors} of {self.requests} requests failed")
        return self.requests / self.seconds


@dataclass(frozen=True)
class Pull:
    """What one request of curl got: its status, its bytes, seconds to the first of them."""

    status: int
    size: int
    first_byte: float


def wrk(
    url: str,
    headers: Sequence[str],
    seconds: float,
    *,
    connections: int = _CONNECTIONS,
    script: str | None = None,
    arguments: Sequence[str] = (),
) -> Rate:
    """Ask for one address, or what a script in ``lua`` makes, on connections that are kept."""
    words = ["wrk", "-t2", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    words += [word for header in headers for word in ("-H", header)]
    if script:
        words += ["-s", str(_LUA / script)]
    told = _output([*words, url, *(["--", *arguments] if arguments else [])])
    answered = re.search(r"(\d+) requests in", told)
    rate = re.search(r"Requests/sec: +([\d.]+)", told)
    if answered is None or rate is None:
        raise Refused(f"wrk: {told[-300:]}")
    if not int(answered[1]):
        raise Refused("wrk: nothing was answered")
    seconds = int(answered[1]) / float(rate[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    pushed = re.search(r"pushed (\d+)", told)
    errors = int(refused[1]) if refused else 0
    return Rate(int((pushed or answered)[1]), seconds, errors)


def ab_head(url: str, headers: Sequence[str], seconds: float) -> Rate:
    """Send HEAD requests; wrk cannot, since it waits for a body."""
    words = ["ab", "-q", "-k", "-i", f"-c{_CONNECTIONS}", "-t", str(max(1, round(seconds)))]
    words += ["-n", "100000000", "-s", "60"]
    words += [word for header in headers for word in ("-H", header)]
    told = _output([*words, url])
    requests, taken = (
        re.search(r"Complete requests: +(\d+)", told),
        re.search(r"taken for tests: +([\d.]+)", told),
    )
    if requests is None or taken is None:
        raise Refused(f"ab: {told[-300:]}")
    refused = re.search(r"Non-2xx responses: +(\d+)", told)
    return Rate(int(requests[1]), float(taken[1]), int(refused[1]) if refused else 0)


class Curl:
    """A client that pulls, a process of its own, three requests at a time."""

    def __init__(self, urls: Sequence[str], headers: Sequence[str], authority: Path) -> None:
        words = [
            "curl",
            "--silent",
            "--show-error",
            "--no-progress-meter",
            "--header",
            f"Accept: {MANIFEST_TYPE}, */*",
            "--http1.1",
            "--parallel",
            "--parallel-max",
            "3",
        ]
        words += ["--cacert", str(authority), "--config", "-"]
        words += ["--write-out", "%{http_code} %{size_download} %{time_starttransfer}\\n"]
        words += [word for header in headers for word in ("--header", header)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in results
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._urls = "".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls)
        if self._process.stdin is not None:
            self._process.stdin.write(self._urls)
            self._process.stdin.close()
            self._process.stdin = None

    def results(self) -> list[Pull]:
        """Wait for the end; raises ``Refused`` where one request failed."""
        told, _ = self._process.communicate()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        self._errors.close()
        rows = [line.split() for line in told.splitlines()]
        pulls = [Pull(int(row[0]), int(row[1]), float(row[2])) for row in rows]
        if self._process.returncode or any(pull.status != 200 for pull in pulls):
            raise Refused(f"curl: {said[-200:]} {[pull.status for pull in pulls]}")
        return pulls


def pull_all(clients: Sequence[Curl], size: int) -> list[Pull]:
    """Wait for clients that are to get ``size`` bytes together; return all their pulls."""
    pulls = [pull for client in clients for pull in client.results()]
    got = sum(pull.size for pull in pulls)
    if got != size:
        raise Refused(f"clients got {got} bytes, not {size}")
    return pulls


def _output(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Refused(f"{words[0]}: {(done.stderr or done.stdout)[-300:]}")
    return done.stdout
