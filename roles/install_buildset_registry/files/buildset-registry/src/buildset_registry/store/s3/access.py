# SPDX-License-Identifier: Apache-2.0
"""Credentials, signatures and the hosts of S3, by botocore: nothing of them is made here."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as BotoConfig
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from buildset_registry.config import S3Settings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.credentials import checked_url, secret, trusted
from buildset_registry.store.objects.dialect import ObjectFailure

#: For how long a signed URL is good; distribution's is, too.
_SIGNED_SECONDS = 20 * 60
#: Bytes up to which a body is part of the signature.
_HASHED = 1024 * 1024
_REGION = "us-east-1"
#: For what botocore signs to tell a URL.
_NOBODY = "nobody"
_SECRETS = ("accesskey", "secretkey", "sessiontoken")


class _Signature(S3SigV4Auth):  # type: ignore[misc]
    """A signature over a body whose hash is known, or that is left out of it."""

    def payload(self, request: Any) -> str:
        return str(request.context["payload"])


@dataclass(frozen=True, slots=True)
class S3Access:
    """Whoever signs requests to one bucket."""

    url: str
    """Of the bucket, without a slash at its end."""

    region: str
    credentials: Any
    tls: ssl.SSLContext | bool

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return the headers of a request with its signature.

        The body of a large one is no part of it: TLS, or the network of the bucket, guards it.
        """
        asked = AWSRequest(request.method, request.url, headers=dict(request.headers))
        body = request.body
        if body is not None and body.size > _HASHED:
            asked.context["payload"] = UNSIGNED_PAYLOAD
        else:
            content = b"".join(body.pieces) if body is not None else b""
            asked.context["payload"] = hashlib.sha256(content).hexdigest()
        _Signature(await self._current(), "s3", self.region).add_auth(asked)
        return dict(asked.headers.items())

    async def renew(self) -> bool:
        """Credentials are renewed before they end, by botocore."""
        return False

    async def signed_url(self, url: str) -> str:
        """Return a URL by which anybody can read an object for a while."""
        asked = AWSRequest("GET", url)
        signature = S3SigV4QueryAuth(
            await self._current(), "s3", self.region, expires=_SIGNED_SECONDS
        )
        signature.add_auth(asked)
        return str(asked.url)

    async def _current(self) -> Any:
        """Return the credentials, which may have to be asked for: then in a thread."""
        needed = getattr(self.credentials, "refresh_needed", None)
        if needed is None or not needed():
            return self.credentials
        try:
            return await asyncio.to_thread(self.credentials.get_frozen_credentials)
        # The last two: a file of a token that is not there, what a process says that is none.
        except (BotoCoreError, ClientError, RuntimeError, OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise ObjectFailure(f"there are no credentials for S3: {reason}") from None


def access_to(settings: S3Settings) -> S3Access:
    """Find the hosts and the credentials; ``ConfigError`` says what is missing.

    This waits for whatever botocore asks: the service of the machine that knows its role.
    """
    session = Session()
    try:
        region = settings.region or session.get_config_variable("region") or _REGION
        credentials = _credentials(settings, session)
        url = _bucket_url(settings, session, region)
    except BotoCoreError as error:
        raise ConfigError(f"storage.s3: {error}") from None
    ca = settings.ca or session.get_config_variable("ca_bundle")
    tls = trusted(Path(ca) if ca else None, "s3", verify=not settings.skipverify)
    return S3Access(url, region, credentials, tls)


def _credentials(settings: S3Settings, session: Session) -> Any:
    access, key, token = (secret(settings, "s3", name) for name in _SECRETS)
    if (access is None) != (key is None):
        raise ConfigError("storage.s3 needs accesskey and secretkey, or neither of them")
    if access is not None:
        return Credentials(access, key, token)
    found = session.get_credentials()
    if found is None:
        raise ConfigError(
            "storage.s3: there are no credentials, in the environment neither; set accesskey and "
            "secretkey, or give the machine a role"
        )
    return found


def _bucket_url(settings: S3Settings, session: Session, region: str) -> str:
    """Return the URL of the bucket; Amazon's, with all their ways of naming one, botocore knows."""
    endpoint = settings.regionendpoint
    if endpoint:
        if "://" not in endpoint:
            endpoint = f"{'https' if settings.secure else 'http'}://{endpoint}"
        endpoint = checked_url(endpoint, "s3.regionendpoint")
        if settings.forcepathstyle is False:
            scheme, _separator, host = endpoint.partition("://")
            return f"{scheme}://{settings.bucket}.{host}"
        return f"{endpoint}/{settings.bucket}"
    options = {
        "addressing_style": "path" if settings.forcepathstyle else "virtual",
        "use_accelerate_endpoint": settings.accelerate,
    }
    config = BotoConfig(
        signature_version="s3v4",
        s3=options,
        use_dualstack_endpoint=settings.usedualstack,
        use_fips_endpoint=settings.usefipsendpoint,
    )
    try:
        client = session.create_client(
            "s3",
            region_name=region,
            use_ssl=settings.secure,
            aws_access_key_id=_NOBODY,
            aws_secret_access_key=_NOBODY,
            config=config,
        )
        given = {"Bucket": settings.bucket, "Key": "key"}
        url = str(client.generate_presigned_url("get_object", Params=given))
    except ValueError as error:
        raise ConfigError(f"storage.s3: {error}") from None
    return url.partition("?")[0].removesuffix("/key")
