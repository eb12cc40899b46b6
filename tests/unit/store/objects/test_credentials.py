# SPDX-License-Identifier: Apache-2.0
"""Credentials that end while the registry runs, and cannot be had anew."""

import errno
import json

import pytest
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.dialect import ObjectFailure
from buildset_registry.store.s3.access import S3Access

DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")


class Ended:
    """Credentials that botocore cannot renew."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def refresh_needed(self) -> bool:
        return True

    def get_frozen_credentials(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        CredentialRetrievalError(provider="iam-role", error_msg="it does not answer"),
        BotoCoreError(),
        DENIED,
        RuntimeError("Credentials were refreshed, but the refreshed credentials are expired."),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/run/token"),
        json.JSONDecodeError("Expecting value", "", 0),
    ],
)
async def test_credentials_that_cannot_be_renewed_are_a_failure_of_the_store(
    error: Exception,
) -> None:
    """In a line, as any other one: clients are told to come again."""
    access = S3Access("https://bucket", "us-east-1", Ended(error), tls=True)
    with pytest.raises(ObjectFailure, match="there are no credentials for S3"):
        await access.sign(ServiceRequest("GET", "https://bucket/key"))
