# SPDX-License-Identifier: Apache-2.0
"""Signatures of Alibaba Cloud OSS, by its own library: nothing of them is made here.

They are of version 4 (``OSS4-HMAC-SHA256``), over the name of the bucket and the key, in whatever
host the bucket has. A body is no part of them: TLS guards it, or the network of the bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote, urlsplit

from alibabacloud_oss_v2.credentials import EnvironmentVariableCredentialsProvider
from alibabacloud_oss_v2.exceptions import CredentialsEmptyError
from alibabacloud_oss_v2.signer import SignerV4
from alibabacloud_oss_v2.types import Credentials, HttpRequest, SigningContext

from buildset_registry.config import OssSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import ServiceRequest, TlsTrust
from buildset_registry.store.objects.credentials import checked_url, secret, trusted

#: For how long a signed URL is good; distribution's is, too.
_SIGNED = timedelta(minutes=20)
_TYPE = "application/octet-stream"
_ALIBABA = ".aliyuncs.com"


@dataclass(frozen=True, slots=True)
class OssAccess:
    """Whoever signs requests to one bucket."""

    url: str
    """Of the bucket, without a slash at its end."""

    bucket: str
    region: str
    credentials: Credentials
    tls: TlsTrust

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return the headers of a request with its signature."""
        headers = dict(request.headers)
        if request.body is not None:
            # It is signed, so that it must not be made up behind the signature.
            headers.setdefault("Content-Type", _TYPE)
        asked = HttpRequest(request.method, request.url, headers=headers)
        SignerV4().sign(self._context(asked))
        return dict(asked.headers)

    async def renew(self) -> bool:
        """There are no others."""
        return False

    async def signed_url(self, url: str) -> str:
        """Return a URL by which anybody can read an object for a while."""
        asked = HttpRequest("GET", url)
        context = self._context(asked)
        context.auth_method_query = True
        context.expiration_time = datetime.now(timezone.utc) + _SIGNED
        SignerV4().sign(context)
        return str(asked.url)

    def _context(self, asked: HttpRequest) -> SigningContext:
        return SigningContext(
            product="oss",
            region=self.region,
            bucket=self.bucket,
            key=unquote(urlsplit(asked.url).path)[1:],
            request=asked,
            credentials=self.credentials,
        )


def access_to(settings: OssSettings) -> OssAccess:
    """Find the host and the credentials; ``ConfigError`` says what is missing."""
    region = settings.region.removeprefix("oss-")
    url = _bucket_url(settings, region)
    tls = trusted(settings.ca, "oss")
    return OssAccess(url, settings.bucket, region, _credentials(settings), tls)


def _credentials(settings: OssSettings) -> Credentials:
    name, key = (secret(settings, "oss", one) for one in ("accesskeyid", "accesskeysecret"))
    if (name is None) != (key is None):
        raise ConfigError("storage.oss needs accesskeyid and accesskeysecret, or neither of them")
    if name is not None:
        return Credentials(name, key)
    try:
        return EnvironmentVariableCredentialsProvider().get_credentials()
    except CredentialsEmptyError:
        raise ConfigError(
            "storage.oss: there are no credentials; set accesskeyid and accesskeysecret, or "
            "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the environment"
        ) from None


def _bucket_url(settings: OssSettings, region: str) -> str:
    """Return the URL of the bucket: the host of distribution's ``endpoint`` has its name already.

    That is often left out: OSS itself has no bucket anywhere but in the host.
    """
    inside = "-internal" if settings.internal else ""
    scheme = "https" if settings.secure else "http"
    endpoint = settings.endpoint or f"{settings.bucket}.oss-{region}{inside}{_ALIBABA}"
    url = checked_url(endpoint if "://" in endpoint else f"{scheme}://{endpoint}", "oss.endpoint")
    scheme, _separator, host = url.partition("://")
    if host.endswith(_ALIBABA) and not host.startswith(f"{settings.bucket}."):
        host = f"{settings.bucket}.{host}"
    return f"{scheme}://{host}"
