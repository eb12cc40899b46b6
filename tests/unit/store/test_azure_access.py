# SPDX-License-Identifier: Apache-2.0
"""Signatures of Azure by the key of an identity, while Entra ID gives no other one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.blob import UserDelegationKey
from buildset_registry.config import AzureSettings
from buildset_registry.store.azure.access import AzureAccess, _Key
from buildset_registry.store.objects.dialect import ObjectFailure


def access_until(left: timedelta) -> tuple[AzureAccess, list[None]]:
    """Return what signs by a key that is good for a while, and the times that another was wanted.

    None is to be had.
    """
    make: Any = UserDelegationKey
    key = make()
    key.signed_oid = key.signed_tid = "11111111-2222-3333-4444-555555555555"
    key.signed_start, key.signed_expiry = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"
    key.signed_service, key.signed_version, key.value = "b", "2023-11-03", "a2V5"
    asked: list[None] = []

    def renew() -> _Key:
        asked.append(None)
        raise ServiceRequestError("login.example.com cannot be reached")

    settings = AzureSettings(container="images", accountname="account")
    until = datetime.now(timezone.utc) + left
    return AzureAccess(settings, _Key(delegated=key, until=until), renew, tls=False), asked


async def test_a_key_is_used_to_its_end() -> None:
    """Where no other one is to be had, which is asked for once in a while, not by every request."""
    access, asked = access_until(timedelta(hours=4))
    for _request in range(3):
        assert "sig=" in await access.query()
    assert len(asked) == 1


async def test_a_key_that_has_ended_is_told() -> None:
    """Nothing can be signed then."""
    access, _asked = access_until(timedelta(hours=-1))
    with pytest.raises(ObjectFailure, match="Azure gives no key"):
        await access.query()
