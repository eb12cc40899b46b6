# SPDX-License-Identifier: Apache-2.0
"""certs.d: a folder of certificates for each registry, of containers-certs.d(5) and of docker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..edits import Edit, own
from ..node import ManagedNode
from ..registry import CERTIFICATE_FILE, RegistryFacts


def edits(client: str, folder: str, registry: RegistryFacts) -> list[Edit]:
    """Trust the registry's certificate at both endpoints."""
    names = [f"{folder}/{address}/{CERTIFICATE_FILE}" for address in registry.addresses]
    return [own(client, name, registry.certificate) for name in names]


def authorities(node: ManagedNode, folders: Sequence[str], address: str) -> tuple[str, list[Path]]:
    """Tell the first of these folders that has an address, and the certificates in it."""
    found = [f"{folder}/{address}" for folder in folders if node.exists(f"{folder}/{address}")]
    if not found:
        return f"certs.d ({address} has no folder there)", []
    return found[0], sorted(node.real(found[0]).glob("*.crt"))
