# SPDX-License-Identifier: Apache-2.0
"""The arguments as users give them: checked before anything is read or written.

A variable may have a value of any type, whatever its documentation says. Errors name the variable
of the role, since that is what most users set; the module's option is the end of its name.
"""

from __future__ import annotations

import re
import shlex
import ssl
from collections.abc import Mapping
from typing import Any

from .errors import ClientError
from .registry import ip_address

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FACTS = "use the facts of the role run_buildset_registry as they are"
_PORTS = ("port", "push_port", "proxy_port")


def check(given: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot be meant."""
    if given["state"] != "absent":
        _facts(given["registry"])
        _host("alias", given["alias"])
    commands(given["restart_commands"])


def commands(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the commands that restart daemons; one may be a list of words."""
    found = {}
    for name, command in given.items():
        words = command if isinstance(command, list) else [command]
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            hint = f'write "systemctl restart {name}" or the like'
            raise _wrong(f"restart_commands.{name}", command, "no command", hint)
        found[str(name)] = shlex.join(words) if isinstance(command, list) else command
        _split(f"restart_commands.{name}", found[str(name)])
    return found


def _split(name: str, command: str) -> None:
    try:
        shlex.split(command)
    except ValueError as error:
        raise ClientError(
            f"buildset_registry_{name} is no command ({str(error).lower()}); mend its quotes"
        ) from error


def _facts(facts: Mapping[str, Any]) -> None:
    for name in ("host", "push_host"):
        if name == "host" or facts.get(name):
            _host(name, facts[name])
    for name in _PORTS:
        port = facts.get(name)
        if port is not None and not (name != "port" and port == 0) and not 0 < port < 65536:
            raise ClientError(f"buildset_registry.{name} is {port}, which is no port; {_FACTS}")
    for name in ("username", "password"):
        if not facts[name] or _CONTROL.search(facts[name]):
            what = "has control characters" if facts[name] else "is empty"
            raise ClientError(f"buildset_registry.{name} {what}; {_FACTS}")
    if ":" in facts["username"]:
        raise ClientError(f"buildset_registry.username has a colon; {_FACTS}")
    _certificate(facts["cert"])


def _host(name: str, value: str) -> None:
    where = "buildset_registry_alias" if name == "alias" else f"buildset_registry.{name}"
    if ip_address(value) is None and (not _NAME.fullmatch(value) or len(value) > 253):
        hint = "write it without a scheme, port or brackets"
        what = f"is {value!r}, which is no name or address" if value else "is empty"
        raise ClientError(f"{where} {what}; {hint}")


def _certificate(text: str | None) -> None:
    """Refuse what is no certificate: clients would fail by it, each in words of its own."""
    if not text:  # as the facts have it by ACME, or behind a proxy that ends TLS
        what = "buildset_registry.cert is empty, since the registry made no certificate itself"
        raise ClientError(f"{what}; give the PEM of the authority by which it is verified")
    if "PRIVATE KEY-----" in text:
        what = "buildset_registry.cert holds a private key, which others would read"
        raise ClientError(f"{what}; leave only the certificate in it")
    try:
        ssl.create_default_context(cadata=text.strip() or "nothing")
    except (ssl.SSLError, ValueError, TypeError) as error:
        reason = str(getattr(error, "reason", "") or "it cannot be read").lower().replace("_", " ")
        what = f"buildset_registry.cert is no certificate in PEM ({reason})"
        raise ClientError(f"{what}; {_FACTS}, line ends included") from error


def _wrong(name: str, value: object, what: str, hint: str) -> ClientError:
    shown = repr(value)
    shown = shown if len(shown) < 60 else f"{shown[:57]}..."
    return ClientError(f"buildset_registry_{name} is {shown}, which is {what}; {hint}")
