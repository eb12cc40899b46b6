# SPDX-License-Identifier: Apache-2.0
"""URLs that clients are sent to for blobs: CloudFront's, and those of another host."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from buildset_registry.config import CloudFrontSettings, RedirectSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.redirects import locator
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.store.objects.imagined import ImaginedService

KEY = "top/docker/registry/v2/blobs/sha256/ab/abc/data"


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as OpenSSL writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def cloudfront(file: Path, baseurl: str = "d111.example.net", **more: int) -> RedirectSettings:
    """Return the settings of CloudFront with a key."""
    settings = CloudFrontSettings(baseurl=baseurl, privatekey=file, keypairid="KEY", **more)
    return RedirectSettings(cloudfront=settings)


async def located(settings: RedirectSettings) -> str | None:
    """Return where a client is sent for an object."""
    locate = locator(settings, ImaginedService(1), Keys("/top/"))
    return None if locate is None else await locate(KEY)


@pytest.mark.parametrize("baseurl", ["d111.example.net", "https://d111.example.net/"])
async def test_a_url_of_cloudfront_has_the_signature_that_amazon_describes(
    tmp_path: Path, baseurl: str
) -> None:
    """A canned policy for the whole key, signed by RSA with SHA-1; its Base64 is Amazon's own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "cf.pem"
    file.write_bytes(pem(key))
    url = await located(cloudfront(file, baseurl, duration=300))
    assert url
    address, query = url.partition("?")[0], parse_qs(urlsplit(url).query)
    assert address == f"https://d111.example.net/{KEY}"
    assert query["Key-Pair-Id"] == ["KEY"]
    expires = int(query["Expires"][0])
    assert 280 < expires - time.time() <= 300
    condition = {"DateLessThan": {"AWS:EpochTime": expires}}
    statement = {"Resource": address, "Condition": condition}
    policy = json.dumps({"Statement": [statement]}, separators=(",", ":")).encode()
    coded = query["Signature"][0].replace("-", "+").replace("_", "=").replace("~", "/")
    key.public_key().verify(base64.b64decode(coded), policy, PKCS1v15(), SHA1())  # noqa: S303 - as Amazon


async def test_another_host_has_what_is_below_the_root() -> None:
    """Distribution's middleware leaves the root directory out, too; nothing is signed."""
    settings = RedirectSettings(base_url="https://blobs.example.com/a/")
    assert await located(settings) == f"https://blobs.example.com/a/{KEY.removeprefix('top/')}"


async def test_nobody_is_sent_anywhere_where_that_is_disabled() -> None:
    """Whatever else is set."""
    assert await located(RedirectSettings(disable=True, base_url="https://a.example.com")) is None


@pytest.mark.parametrize("kind", ["absent", "text", "curve"])
async def test_a_key_that_is_none_is_said_in_a_line(tmp_path: Path, kind: str) -> None:
    """Which file it is, and what it is to hold."""
    file = tmp_path / "cf.pem"
    if kind == "text":
        file.write_text("no key")
    elif kind == "curve":
        file.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ConfigError, match=r"cloudfront\.privatekey .*cf\.pem") as caught:
        await located(cloudfront(file))
    assert "\n" not in str(caught.value)
