# SPDX-License-Identifier: Apache-2.0
"""The system that all clients share: logins, its store of certificates, its table of hosts.

Logins are in docker's config.json and in auth.json, beside those that users have.
containers-auth.json(5) has the form of docker's file. docker asks a credential store for every
registry where one is set, and its file where ``credHelpers`` has an empty name for the registry.
"""

from __future__ import annotations

import os
from pathlib import Path

from .. import credential_helpers, files
from ..edits import JSON, TEXT, Edit, Rewrite, own
from ..errors import ClientError
from ..formats.json import dump, load, part
from ..node import Account, ManagedNode
from ..registry import CERTIFICATE_FILE, RegistryFacts
from .base import execute

#: The client that the system is called among the real ones.
NAME = "system"
HOSTS = "/etc/hosts"
#: The time for which a program written in Go, as daemons are, goes by what it has read there.
NAMES_SECONDS = 5
#: Files of a user's home that hold logins, and the client that each is of; in docker's a credential
#: store may stand.
_LOGINS = ((".docker/config.json", "docker"), (".config/containers/auth.json", "containers"))
#: Folders for further authorities, and what makes the store of them anew, by distribution:
#: Red Hat; SUSE; Arch; Debian, Ubuntu and Alpine.
STORES = {
    "/etc/pki/ca-trust/source/anchors": ["update-ca-trust", "extract"],
    "/etc/pki/trust/anchors": ["update-ca-certificates"],
    "/etc/ca-certificates/trust-source/anchors": ["trust", "extract-compat"],
    "/usr/local/share/ca-certificates": ["update-ca-certificates"],
}

#: The links that programs find a certificate by.
_LINKS = "/etc/ssl/certs"


def edits(node: ManagedNode, registry: RegistryFacts, trusted: bool) -> list[Edit]:
    """Log every user in, and have the registry's name known, and trusted where that is wanted."""
    made = logins(node, registry) + names(node, registry)
    return made + (trust(node, registry) if trusted else [])


def _of_environment(node: ManagedNode) -> list[tuple[str, str, Account]]:
    """Tell the files that tools of the present environment read in place of those in the home."""
    folder, path = os.environ.get("DOCKER_CONFIG", ""), os.environ.get("REGISTRY_AUTH_FILE", "")
    named = {f"{folder}/config.json": "docker", path: "containers"}
    found = [one for one in named if Path(one).is_absolute() and one != "/config.json"]
    # What is in a user's home is the user's, whoever has the variable.
    owners = {
        one: [user for user in node.accounts if one.startswith(f"{user.home}/")] for one in found
    }
    return [(one, named[one], (owners[one] or [node.me])[0]) for one in found]


def logins(node: ManagedNode, registry: RegistryFacts) -> list[Edit]:
    """Log every user in, for all tools that read these files."""
    named = _of_environment(node)
    for account in node.accounts:
        named += [(f"{account.home}/{name}", client, account) for name, client in _LOGINS]
    # docker's files are what they lead to, and another of these may lead there, too.
    docker_s = {
        node.resolve(path): account for path, client, account in named if client == "docker"
    }
    made = []
    for path, client, account in named:
        rewrite = _adding(path, registry, node, docker_s.get(node.resolve(path)))
        made.append(Edit(client, path, JSON, rewrite, mode=0o600, secret=True, account=account))
    return made


def _adding(
    path: str, registry: RegistryFacts, node: ManagedNode, docker_s: Account | None
) -> Rewrite:
    """Return what adds the logins; ``docker_s`` is the user of a file that may have a store."""

    def rewrite(before: bytes | None) -> bytes:
        found = load(before, path)
        added = {address: {"auth": registry.login} for address in registry.logins}
        result = {**found, "auths": {**part(found, "auths", path), **added}}
        stored = docker_s is not None and credential_helpers.has_store(node, docker_s, found, path)
        return dump(credential_helpers.passed_by(result, path, added, stored), before, "\t")

    return rewrite


def names(node: ManagedNode, registry: RegistryFacts) -> list[Edit]:
    """Let the alias stand for the registry's address."""
    if not registry.literals:
        return []
    if _may_name(node):
        return [Edit(NAME, HOSTS, TEXT, _naming(registry))]
    needed = [address for address in _unnamed(node, registry) if ":" in address]
    if needed:
        hint = f"become root, or have '{needed[0]} {registry.alias}' put into {HOSTS}"
        raise ClientError(f"{needed[0]} needs a name that clients take; {hint}")
    return []


def unnamed(node: ManagedNode, registry: RegistryFacts) -> str:
    """Tell of an alias that no client needs and that could not be written; else nothing."""
    missing = [] if _may_name(node) else _unnamed(node, registry)
    if not missing:
        return ""
    hint = f"become root, or have '{missing[0]} {registry.alias}' put into {HOSTS}"
    return f"{registry.alias}, to which zuul-jobs' roles push, is unknown here; {hint}"


def _may_name(node: ManagedNode) -> bool:
    """Tell whether the table of hosts can be written: in a sandbox it may be read-only."""
    path = node.real(HOSTS)
    return node.is_root and os.access(path if path.exists() else path.parent, os.W_OK)


def _unnamed(node: ManagedNode, registry: RegistryFacts) -> list[str]:
    """Tell the addresses that the alias does not stand for yet."""
    text = (files.read(node.real(HOSTS)) or b"").decode("utf-8", "replace")
    entries = [line.partition("#")[0].split() for line in text.splitlines()]
    known = [words[0] for words in entries if registry.alias in words[1:]]
    return [address for address in registry.literals if address not in known]


def _naming(registry: RegistryFacts) -> Rewrite:
    """Return what adds the alias, unless it is there, and takes it from all other addresses."""

    def rewrite(before: bytes | None) -> bytes:
        lines = (before or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        kept, known = [], []
        for line in lines:
            words = line.partition("#")[0].split()
            if registry.alias not in words[1:]:
                kept.append(line)
            elif words[0] in registry.literals:
                known.append(words[0])
                kept.append(line)
            elif len(words) > 2:
                kept.append(" ".join(word for word in words if word != registry.alias) + "\n")
        missing = [address for address in registry.literals if address not in known]
        ours = [f"{address} {registry.alias}\n" for address in missing]
        return "".join([*kept, *ours]).encode("utf-8", "surrogateescape")

    return rewrite


def trust(node: ManagedNode, registry: RegistryFacts) -> list[Edit]:
    """Let every program of the node trust the registry."""
    found = _store(node)
    if not node.is_root or found is None:
        return []
    path = f"{found[0]}/{CERTIFICATE_FILE}"
    return [own(NAME, path, registry.certificate, action="reload")]


def _store(node: ManagedNode) -> tuple[str, list[str]] | None:
    """Find the folder and the command; nothing on a system without one."""
    for folder, command in STORES.items():
        if node.exists(folder) and node.program(command[0]):
            return folder, command
    return None


class CertificateStore:
    """The system's store of certificates, which a command makes anew from the folder."""

    def tell(self, node: ManagedNode, client: str, action: str, command: str | None) -> str:
        """Make it anew, whatever the action."""
        found = _store(node)
        if found:
            program = node.program(found[1][0]) or found[1][0]
            execute([program, *found[1][1:]], "making the system's store of certificates")
            _remove_links(node)
        return ""


def _remove_links(node: ManagedNode) -> None:
    """Remove what leads to the certificate where that has gone.

    Debian's command leaves its own link, and the one by a hash that leads to that, unless there is
    another certificate to add (ca-certificates 20230311).
    """
    gone = {CERTIFICATE_FILE}
    links = [one for one in node.real(_LINKS).glob("*") if one.is_symlink() and not one.exists()]
    for link in sorted(links, key=lambda one: one.suffix != ".pem"):
        if Path(os.readlink(link)).name in gone:
            gone.add(link.name)
            link.unlink()
