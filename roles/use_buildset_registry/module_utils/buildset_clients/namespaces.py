# SPDX-License-Identifier: Apache-2.0
"""The registries that are stood in for, as users give them: refused in one line, or in normal form.

A name is the part of an image's name before the first slash. docker.io has further names, and its
API is elsewhere than its website; 443 is no port of a name (see the registry's own normal form).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .errors import ClientError

VARIABLE = "buildset_registry_namespaces"
_HUB, _HUB_API = "docker.io", "registry-1.docker.io"
_HUB_NAMES = (_HUB, f"index.{_HUB}", f"www.{_HUB}", _HUB_API)
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_NAME = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?")


def normal(namespaces: Iterable[Any]) -> list[tuple[str, str]]:
    """Return name and URL of each once, in their order; ClientError names the one that is wrong."""
    found: dict[str, str] = {}
    for one in namespaces:
        if not isinstance(one, (list, tuple)) or len(one) != 2 or not all(map(_is_text, one)):
            raise _wrong(one, "is not a list of a name and a URL", '[quay.io, "https://quay.io"]')
        name, url = _name(one[0]), _url(one[1])
        if found.setdefault(name, url) != url:
            what = f"names {name} twice, with {_shown(found[name])} and {_shown(url)}"
            raise ClientError(f"{VARIABLE} {what}; leave one of them out")
    return list(found.items())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _name(given: str) -> str:
    name = re.sub(r":443$", "", given.strip().lower())
    if not _NAME.fullmatch(name):
        host = re.sub(r"^\w+://|/.*$", "", name)
        better = host if _NAME.fullmatch(host) else "such as quay.io or registry.example.com:5000"
        raise _wrong(given, "is no name of a registry", better)
    return _HUB if name in _HUB_NAMES else name


def _url(given: str) -> str:
    url = given.strip()
    if _CONTROL.search(url):
        raise _wrong(_shown(url), "has a space or a control character", "https://HOST")
    parts = urlsplit(url)
    try:
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port = "", None
    if parts.scheme.lower() not in ("http", "https") or not host or parts.query or parts.fragment:
        raise _wrong(_shown(url), "is no URL of a registry", "https://HOST or http://HOST:PORT")
    if host in _HUB_NAMES and port in (None, 443):
        return f"https://{_HUB_API}"
    return url.rstrip("/")


def _shown(url: str) -> str:
    """Return a URL without the password that it may have."""
    return re.sub(r"//[^/@]*@", "//", url)


def _wrong(given: Any, what: str, better: str) -> ClientError:
    return ClientError(f"{VARIABLE}: {given!r} {what}; write {better}")
