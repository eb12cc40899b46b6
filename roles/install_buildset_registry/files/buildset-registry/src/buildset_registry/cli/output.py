# SPDX-License-Identifier: Apache-2.0
"""Output for people: a bar at a terminal, the summary of a registry, numbers; and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from buildset_registry.progress import Progress

_WIDTH = 30
#: Seconds between two drawings.
_PAUSE = 0.1
_CLEAR = "\r\x1b[K"

Facts = Mapping[str, Any]


def say(text: str) -> None:
    """Print for people."""
    sys.stdout.write(f"{text}\n")


def say_json(tree: object) -> None:
    """Print for programs."""
    say(json.dumps(tree))


class Bar:
    """A bar at a terminal, drawn again and again and gone at the end; elsewhere nothing."""

    def __init__(self, output: TextIO) -> None:
        self._output = output if output.isatty() else None
        self._drawn = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._output is not None and self._drawn:
            self._output.write(_CLEAR)
            self._output.flush()

    def show(self, progress: Progress) -> None:
        """Draw, unless that was done a moment ago."""
        if self._output is None or time.monotonic() - self._drawn < _PAUSE:
            return
        self._drawn = time.monotonic()
        self._output.write(f"{_CLEAR}{line(progress)}")
        self._output.flush()


def line(progress: Progress) -> str:
    """Return the bar as text."""
    if not progress.total:
        return f"{progress.stage} {progress.done:,}"
    filled = _WIDTH * min(progress.done, progress.total) // progress.total
    drawn = "#" * filled + "." * (_WIDTH - filled)
    return f"[{drawn}] {progress.stage} {progress.done:,} of {progress.total:,}"


def usage(root: Path, facts: Facts, certificate: Path | None, *, started: bool) -> str:
    """Return the address of the registry and how to use it; the password is named, not shown.

    Where no file has a certificate to trust, clients trust what the registry shows, or do not.
    """
    pull, push = _address(facts, ""), _address(facts, "push_")
    cert, password = quote(str(certificate)), quote(str(root / "password"))
    podman = f"  mkdir -p certs && cp {cert} certs/ca.crt\n" if certificate else ""
    docker = "".join(
        f"  sudo install -D -m 644 {cert} /etc/docker/certs.d/{end}/ca.crt\n"
        for end in (dict.fromkeys((pull, push)) if certificate else ())
    )
    shown = f"  cert    {certificate}\n" if certificate else ""
    by = " --cert-dir certs" if certificate else ""
    user, example = facts["username"], "quay.io/org/app:new"
    head = "The registry is up." if started else "The registry is up; nothing was changed."
    return f"""\
{head}

  pull    https://{pull}    read-only; what nobody pushed comes from upstream
  push    https://{push}    user {user}, password in {root / "password"}
{_proxy(facts)}{shown}  files   {root}

Podman (buildah and skopeo take the same options):

{podman}  podman login{by} --username {user} --password-stdin {push} < {password}
  podman push{by} IMAGE {push}/{example}
  podman pull{by} {pull}/{example}

Docker:

{docker}  docker login --username {user} --password-stdin {push} < {password}
  docker push {push}/{example}
  docker pull {pull}/{example}

To stop it: buildset-registry down{_root_option(root)}"""


def state(root: str, pid: int | None, facts: Facts | None, *, answers: bool) -> str:
    """Return a line on a registry: whether it runs, and where."""
    option = _root_option(Path(root))
    if facts is None:
        return f"There is no registry in {root}. To make one: buildset-registry up{option}"
    where = f"pull {_address(facts, '')}, push {_address(facts, 'push_')}, files {root}"
    if pid is None:
        return f"The registry is not running ({where}). To start it: buildset-registry up{option}"
    if not answers:
        return (
            f"The registry is running (process {pid}), but does not answer; see its log ({where})"
        )
    return f"The registry is running (process {pid}): {where}"


def _address(facts: Facts, prefix: str) -> str:
    host, port = facts[f"{prefix}host"], facts[f"{prefix}port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _proxy(facts: Facts) -> str:
    """Return the line on the proxy for docker, where there is one."""
    if "proxy_port" not in facts:
        return ""
    address = _address({"host": facts["host"], "port": facts["proxy_port"]}, "")
    return f"  proxy   https://{address}    HTTPS proxy for dockerd, with the same user\n"


def _root_option(root: Path) -> str:
    from buildset_registry.instance.paths import default_root

    return "" if root == default_root() else f" --root {quote(str(root))}"


def number(value: int) -> str:
    """Return a number that people can read."""
    return f"{value:,}"


def amount(size: float) -> str:
    """Return a number of bytes that people can read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
