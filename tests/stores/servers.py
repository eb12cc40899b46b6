# SPDX-License-Identifier: Apache-2.0
"""Servers of the protocols that are spoken by one program: S3, Azure's blobs, Google's objects."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import itertools
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.ports import free_port
from tests.stores import oss_server, programs
from tests.stores.process import answers, listens, running

_NUMBERS = itertools.count(1)
#: The account of Azurite.
_ACCOUNT = "buildset"


def fresh_name() -> str:
    """Return a name for a bucket that no other test has."""
    return f"tests-{next(_NUMBERS)}-{secrets.token_hex(4)}"


def files_below(top: Path) -> Iterator[Path]:
    """Yield all files of a folder in which a server may be removing some."""
    for folder, _folders, names in os.walk(top):
        yield from (Path(folder, name) for name in names)


@dataclass(frozen=True)
class S3Server:
    """A server of S3's protocol whose buckets are folders."""

    url: str
    folder: Path
    access_key: str = "tests"
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16))
    region: str = "us-east-1"

    def bucket(self) -> str:
        """Make a bucket that is empty."""
        name = fresh_name()
        (self.folder / name).mkdir()
        return name

    def settings(self, bucket: str, **more: object) -> dict[str, object]:
        """Return what a registry is told of a bucket, as in its configuration, and more."""
        return {
            "bucket": bucket,
            "region": self.region,
            "regionendpoint": self.url,
            "accesskey": self.access_key,
            "secretkey": self.secret_key,
            **more,
        }

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects of a bucket, by its folders."""
        top = self.folder / bucket
        # MinIO keeps an object in a folder with its description, and the parts of a large one.
        files = set(files_below(top))
        described = {path.parent for path in files if path.name == "xl.meta"}
        plain = {path for path in files if described.isdisjoint(path.parents)}
        return sorted(str(path.relative_to(top)) for path in described | plain)


@dataclass(frozen=True)
class GoogleServer:
    """A server of Google's protocol, which takes any credentials."""

    url: str
    keyfile: Path
    """The key of a service account, made for it."""

    def settings(self, bucket: str, **more: object) -> dict[str, object]:
        """Return what a registry is told of a bucket, by distribution's names."""
        return {"bucket": bucket, "keyfile": self.keyfile, "endpoint": self.url, **more}

    def bucket(self) -> str:
        """Make a bucket that is empty."""
        name = fresh_name()
        made = httpx.post(f"{self.url}/storage/v1/b", json={"name": name}, trust_env=False)
        made.raise_for_status()
        return name


@dataclass(frozen=True)
class AzureServer:
    """A server of Azure's protocol, with one account."""

    url: str
    """Ends with the name of the account, as where no DNS has it in the host's name."""

    key: str
    account: str = _ACCOUNT

    def settings(self, container: str, **more: object) -> dict[str, object]:
        """Return what a registry is told of a container, by distribution's names."""
        return {
            "accountname": self.account,
            "accountkey": self.key,
            "container": container,
            "serviceurl": self.url,
            **more,
        }

    def container(self) -> str:
        """Make a container that is empty."""
        name = fresh_name()
        self.ask("PUT", f"/{name}", restype="container").raise_for_status()
        return name

    def ask(self, method: str, path: str, **query: str) -> httpx.Response:
        """Send a request without a body, signed with the account's key."""
        headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
        lines = [method, *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
        lines += [f"/{self.account}/{self.account}{path}"]
        lines += [f"{name}:{value}" for name, value in sorted(query.items())]
        digest = hmac.digest(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        url = f"{self.url}{path}"
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, url, params=query, headers=headers)


@dataclass(frozen=True)
class OssServer:
    """A server of OSS's protocol, with one bucket that all tests share."""

    url: str
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def settings(self, root: str, **more: object) -> dict[str, object]:
        """Return what a registry is told of a folder in the bucket, by distribution's names."""
        return {
            "bucket": oss_server.BUCKET,
            "region": f"oss-{oss_server.REGION}",
            "endpoint": self.url,
            "accesskeyid": oss_server.KEY,
            "accesskeysecret": self.secret,
            "rootdirectory": root,
            **more,
        }


@contextmanager
def minio(folder: Path) -> Iterator[S3Server]:
    """Run MinIO in a folder."""
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True)
    server = S3Server(f"http://127.0.0.1:{port}", data)
    environment = {
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    words = ["server", "--quiet", "--address", f"127.0.0.1:{port}"]
    words += ["--certs-dir", str(folder / "certs"), str(data)]
    command = [str(programs.go_tool("minio")), *words]
    ready = answers(f"{server.url}/minio/health/ready")
    with running(command, folder / "minio.log", ready, environment):
        yield server


@contextmanager
def versitygw(folder: Path) -> Iterator[S3Server]:
    """Run versitygw in a folder."""
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True)
    server = S3Server(f"http://127.0.0.1:{port}", data)
    environment = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    words = ["--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "--health", "/health"]
    command = [str(programs.go_tool("versitygw")), *words, "posix", str(data)]
    ready = answers(f"{server.url}/health")
    with running(command, folder / "versitygw.log", ready, environment):
        yield server


@contextmanager
def fake_oss(folder: Path) -> Iterator[OssServer]:
    """Run the tests' own server of OSS's protocol."""
    port = free_port()
    server = OssServer(f"http://127.0.0.1:{port}")
    command = [sys.executable, oss_server.__file__, str(port)]
    environment = {oss_server.SECRET: server.secret}
    with running(command, folder / "oss-server.log", listens(port), environment):
        yield server


@contextmanager
def fake_gcs(folder: Path) -> Iterator[GoogleServer]:
    """Run fake-gcs-server in a folder."""
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True)
    server = GoogleServer(f"http://127.0.0.1:{port}", _service_account(folder))
    words = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    words += ["-backend", "filesystem", "-filesystem-root", str(data)]
    words += ["-public-host", f"127.0.0.1:{port}", "-log-level", "warn"]
    ready = answers(f"{server.url}/storage/v1/b?project=tests")
    command = [str(programs.go_tool("fake-gcs-server")), *words]
    with running(command, folder / "fake-gcs-server.log", ready):
        yield server


def _service_account(folder: Path) -> Path:
    """Write the key file of a service account as Google hands it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    tree = {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "registry@tests.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:1/token",
    }
    path = folder / "keyfile.json"
    path.write_text(json.dumps(tree))
    return path


@contextmanager
def azurite(folder: Path) -> Iterator[AzureServer]:
    """Run Azurite in a folder."""
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True)
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    server = AzureServer(f"http://127.0.0.1:{port}/{_ACCOUNT}", key)
    words = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(data)]
    words += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    command = [str(programs.azurite()), *words]
    ready = answers(f"{server.url}?comp=list", 403)
    environment = {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{key}"}
    with running(command, folder / "azurite.log", ready, environment):
        yield server
