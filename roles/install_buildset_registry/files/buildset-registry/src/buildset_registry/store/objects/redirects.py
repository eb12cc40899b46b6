# SPDX-License-Identifier: Apache-2.0
"""URLs that clients are sent to for blobs: the service's own, CloudFront's, or another host's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from urllib.parse import quote

from buildset_registry.config import CloudFrontSettings, RedirectSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.dialect import Dialect
from buildset_registry.store.objects.keys import Keys

#: Returns the URL of an object by its key, if there is one.
Locate = Callable[[str], Awaitable[str | None]]


def locator(settings: RedirectSettings, dialect: Dialect, keys: Keys) -> Locate | None:
    """Return what finds the place that a client is sent to; None where nobody is sent anywhere."""
    if settings.disable:
        return None
    if settings.base_url is not None:
        return partial(_beside, settings.base_url.rstrip("/"), len(keys.top))
    if settings.cloudfront is not None:
        return _cloudfront(settings.cloudfront)
    return dialect.sign


async def _beside(base: str, top: int, key: str) -> str:
    """Return a URL below another one; of the key, what is behind the root, as distribution does."""
    return f"{base}/{quote(key[top:])}"


def _cloudfront(settings: CloudFrontSettings) -> Locate:
    """Return what signs URLs of CloudFront, by botocore, with a policy of its own canned form."""
    from botocore.signers import CloudFrontSigner
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    where = f"storage.redirect.cloudfront.privatekey {settings.privatekey}"
    try:
        key = load_pem_private_key(settings.privatekey.read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(f"{where} holds no RSA key without a password; name one")

    def sign(message: bytes) -> bytes:
        # CloudFront takes SHA-1 alone.
        return key.sign(message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303

    base = settings.baseurl if "://" in settings.baseurl else f"https://{settings.baseurl}"
    signer = CloudFrontSigner(settings.keypairid, sign)

    async def locate(name: str) -> str:
        until = datetime.now(timezone.utc) + timedelta(seconds=settings.duration)
        url = f"{base.rstrip('/')}/{quote(name)}"
        # A signature of RSA takes milliseconds.
        return str(await asyncio.to_thread(signer.generate_presigned_url, url, until))

    return locate
