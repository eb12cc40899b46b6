# SPDX-License-Identifier: Apache-2.0
"""Signed URLs of Google by an identity, which asks Google for each signature."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_registry.config import GcsSettings
from buildset_registry.store.gcs.access import GcsAccess
from google.auth.credentials import AnonymousCredentials, Signing
from google.auth.exceptions import TransportError


class Identity(AnonymousCredentials, Signing):
    """One that Google lets sign nothing."""

    signer = None
    signer_email = "job@project.iam.gserviceaccount.com"

    def __init__(self, error: Any) -> None:
        make: Any = super().__init__
        make()
        self.asked, self.error = 0, error

    def sign_bytes(self, _message: bytes) -> Any:
        self.asked += 1
        raise self.error


async def test_clients_are_sent_nowhere_where_google_signs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They get what they want from the registry, which asks again after a minute."""
    refusal: Any = TransportError
    identity = Identity(refusal("Error calling the IAM signBytes API: permission denied\nand more"))
    access = GcsAccess(GcsSettings(bucket="images"), identity, tls=True)
    for _pull in range(3):
        assert await access.signed_url("key") is None
    assert identity.asked == 1
    assert "Google signs no URLs: Error calling the IAM signBytes API: permission denied;" in (
        caplog.text
    )
