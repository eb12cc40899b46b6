# SPDX-License-Identifier: Apache-2.0
"""Credential helpers of logins' files, which would be asked for the registry's login in our place.

``credsStore`` is asked for every registry, ``credHelpers`` for one. A helper is a program,
``docker-credential-NAME``; where that is not installed, docker's command passes it over, but
BuildKit and the Python SDK for docker fail, whatever registry it is that they ask. An empty name is
docker's own way to say that its file has a registry's login; podman, buildah and skopeo, where they
are told to read that file, look for a program of that name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .formats.json import load, part, wrong
from .node import Account, ManagedNode

_STORE, _HELPERS = "credsStore", "credHelpers"
#: Folders of a user's own programs.
_OWN = ("bin", ".local/bin")


def passed_by(
    settings: dict[str, Any], path: str, addresses: Iterable[str], store_is_there: bool
) -> dict[str, Any]:
    """Return the settings of a file so that the logins for addresses are those in it.

    A store that is not there goes: it can have no login, and is in the way of all.
    """
    ours = list(addresses)
    helpers = part(settings, _HELPERS, path)
    others = {name: helper for name, helper in helpers.items() if name not in ours}
    result = {name: value for name, value in settings.items() if name != _STORE}
    if store_is_there:
        result = {**settings, _HELPERS: {**helpers, **dict.fromkeys(ours, "")}}
    elif others != helpers:
        result[_HELPERS] = others
    return result


def has_store(node: ManagedNode, account: Account, settings: dict[str, Any], path: str) -> bool:
    """Tell whether the program is there that a file of docker's has as the store of all logins."""
    store = settings.get(_STORE) or ""
    if not isinstance(store, str):
        raise wrong(_STORE, path, "a string", settings)
    own = [str(node.real(f"{account.home}/{folder}")) for folder in _OWN]
    folders = os.pathsep.join([node.path, *own])
    return bool(store) and bool(shutil.which(f"docker-credential-{store}", path=folders))


def named_in(paths: Iterable[str]) -> str:
    """Tell the files that name a helper, for whoever has to mend one."""
    found = []
    for path in paths:
        try:
            settings = load(Path(path).read_bytes(), path)
        except OSError:
            continue
        found += [path] if settings.get(_STORE) or settings.get(_HELPERS) else []
    return " or ".join(found) or "the configuration"
