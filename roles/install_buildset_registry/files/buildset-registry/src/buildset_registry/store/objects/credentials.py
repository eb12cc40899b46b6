# SPDX-License-Identifier: Apache-2.0
"""Secrets that the configuration holds or names a file for, and URLs that it has as text."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from buildset_registry.config import is_http_url
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import trust


def secret(settings: object, service: str, name: str) -> str | None:
    """Return a secret that is set, or is in a file; empty ones are none, as to distribution."""
    value: str | None = getattr(settings, name)
    file: Path | None = getattr(settings, f"{name}_file")
    if file is not None:
        if value:
            raise ConfigError(f"storage.{service}: set {name} or {name}_file, not both")
        try:
            value = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(
                f"storage.{service}: cannot read {name}_file {file}: {reason}"
            ) from None
    return value or None


def checked_url(url: str, setting: str) -> str:
    """Return the URL of a service without a slash at its end; ``ConfigError`` where it is none."""
    if not is_http_url(url):
        raise ConfigError(f"storage.{setting} {url!r} is no URL; correct it")
    return url.rstrip("/")


def trusted(ca: Path | None, service: str, *, verify: bool = True) -> ssl.SSLContext | bool:
    """Return what a service is verified with; ``ConfigError`` where a file is of no use."""
    try:
        return trust(ca, verify=verify)
    except (OSError, ssl.SSLError) as error:
        reason = os.strerror(error.errno) if error.errno else "it holds no certificate"
        raise ConfigError(f"storage.{service}: the ca {ca} cannot be used: {reason}") from None
