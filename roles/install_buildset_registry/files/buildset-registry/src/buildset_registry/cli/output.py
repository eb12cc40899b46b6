# SPDX-License-Identifier: Apache-2.0
"""A bar on a terminal that shows how far something has come; elsewhere nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Protocol, TextIO

_WIDTH = 30
#: Seconds between two drawings.
_PAUSE = 0.1
_CLEAR = "\r\x1b[K"


class Step(Protocol):
    """How far a stage has come; the total is 0 where that is not known."""

    @property
    def stage(self) -> str:
        """What is going on."""

    @property
    def done(self) -> int:
        """How much is done."""

    @property
    def total(self) -> int:
        """How much there is."""


class Bar:
    """One line that is drawn again and again, and gone at the end."""

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

    def show(self, step: Step) -> None:
        """Draw, unless that was done a moment ago."""
        if self._output is None or time.monotonic() - self._drawn < _PAUSE:
            return
        self._drawn = time.monotonic()
        self._output.write(f"{_CLEAR}{line(step)}")
        self._output.flush()


def line(step: Step) -> str:
    """Return the bar as text."""
    if not step.total:
        return f"{step.stage} {step.done:,}"
    filled = _WIDTH * min(step.done, step.total) // step.total
    drawn = "#" * filled + "." * (_WIDTH - filled)
    return f"[{drawn}] {step.stage} {step.done:,} of {step.total:,}"


Facts = Mapping[str, Any]


def usage(root: Path, facts: Facts, *, started: bool) -> str:
    """Return where the registry is and how to use it; the password is named, not shown."""
    pull, push = _address(facts, ""), _address(facts, "push_")
    cert, password = quote(str(root / "cert.pem")), quote(str(root / "password"))
    user, example = facts["username"], "quay.io/org/app:new"
    head = "The registry is up." if started else "The registry is up, as it was."
    return f"""\
{head}

  pull    https://{pull}    read-only; what nobody pushed comes from upstream
  push    https://{push}    user {user}, password in {root / "password"}
{_proxy(facts)}  cert    {root / "cert.pem"}
  files   {root}

Podman (buildah and skopeo take the same options):

  mkdir -p certs && cp {cert} certs/ca.crt
  podman login --cert-dir certs --username {user} --password-stdin {push} < {password}
  podman push --cert-dir certs IMAGE {push}/{example}
  podman pull --cert-dir certs {pull}/{example}

Docker:

  sudo install -D -m 644 {cert} /etc/docker/certs.d/{pull}/ca.crt
  sudo install -D -m 644 {cert} /etc/docker/certs.d/{push}/ca.crt
  docker login --username {user} --password-stdin {push} < {password}
  docker push {push}/{example}
  docker pull {pull}/{example}

To end it: buildset-registry down{_root_option(root)}"""


def state(root: str, pid: int | None, facts: Facts | None, *, answers: bool) -> str:
    """Return one or two lines on a registry."""
    option = _root_option(Path(root))
    if facts is None:
        return f"There is no registry in {root}. To make one: buildset-registry up{option}"
    where = f"pull {_address(facts, '')}, push {_address(facts, 'push_')}, files {root}"
    if pid is None:
        return f"The registry does not run ({where}). To start it: buildset-registry up{option}"
    if not answers:
        return f"The registry runs (process {pid}), but does not answer; see its log ({where})"
    return f"The registry runs (process {pid}): {where}"


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
