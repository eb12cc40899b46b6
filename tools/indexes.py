# SPDX-License-Identifier: Apache-2.0
"""Package indexes: what pip is told of them, told to uv, which reads none of pip's settings.

A company's mirror, its proxy and its certificate authority stand in pip.conf, in ``PIP_...`` or in
the system's store of certificates; whoever can use pip can use the workshop. What uv is told by
variables of its own counts more.

usage: python tools/indexes.py PROGRAM ARGUMENT...    # runs pip or uv with these settings
"""

from __future__ import annotations

import ast
import functools
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: Sections of pip's settings that count here; a later one counts more.
SECTIONS = ("global", "install", ":env:")
#: Settings whose value is the same for uv, with all variables by which uv may know them already.
SAME = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "trusted-host": ("UV_INSECURE_HOST",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "keyring-provider": ("UV_KEYRING_PROVIDER",),
}
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def read(listing: str) -> dict[str, str]:
    """Read what ``pip config list`` prints."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for section, name, value in re.findall(r"^([\w:]+)\.([\w-]+)=(['\"].*)$", listing, re.M):
        if section in found:
            found[section][name.removeprefix("default-")] = str(ast.literal_eval(value))
    return {name: value for section in SECTIONS for name, value in found[section].items()}


def system_store() -> str:
    """Return the file, or else the folder, of the certificates that the system trusts."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return paths.cafile
    return paths.capath if paths.capath and any(Path(paths.capath).glob("*.0")) else ""


def translate(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell uv what pip is told, but for those that are set already."""
    told = {}
    for name, variables in SAME.items():
        if settings.get(name) and not any(variable in environ for variable in variables):
            # Several values stand in several lines, or have spaces between them.
            told[variables[0]] = " ".join(settings[name].split())
    if "UV_INDEX" in told:
        # As pip does: the best of all indexes, not the first that knows the name.
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    links = [
        link
        for link in settings.get("find-links", "").split()
        if "://" in link or Path(link).exists()
    ]
    if links:
        told["UV_FIND_LINKS"] = ",".join(links)
    if settings.get("proxy") and not any(variable in environ for variable in PROXIES):
        told |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), settings["proxy"])
    return told | trust(settings, environ)


def trust(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name the certificate authorities, for pip and for uv.

    uv, and pip before 24.2, have lists of their own, where a company's is missing.
    """
    named = [settings.get("cert"), *map(environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))]
    store = next(filter(None, named), "")
    system = system_store()
    told = {}
    if store and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & environ.keys():
        told["SSL_CERT_DIR" if Path(store).is_dir() else "SSL_CERT_FILE"] = store
    if system and not {"UV_SYSTEM_CERTS", "UV_NATIVE_TLS"} & environ.keys():
        told["UV_SYSTEM_CERTS"] = "true"
    if system and not store:
        told["REQUESTS_CA_BUNDLE"] = system
    return told


@functools.cache
def settings() -> dict[str, str]:
    """Return what pip is told in its files and by its variables."""
    ask = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    return read(subprocess.run(ask, capture_output=True, text=True, check=False).stdout)


def environment() -> dict[str, str]:
    """Return the variables to add to the environment of pip and of uv."""
    return translate(settings(), os.environ)


def pip_variables() -> dict[str, str]:
    """Return pip's settings as variables, for a pip that does not find the files."""
    told = {"cert": environment().get("REQUESTS_CA_BUNDLE", "")} | settings()
    return {
        f"PIP_{name.upper().replace('-', '_')}": " ".join(value.split())
        for name, value in told.items()
        if value
    }


if __name__ == "__main__":
    sys.exit(
        subprocess.run(sys.argv[1:], env={**os.environ, **environment()}, check=False).returncode
    )
