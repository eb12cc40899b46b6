# SPDX-License-Identifier: Apache-2.0
"""A tiny image that exists nowhere else: pushed by one name of each registry, and removed again.

It goes by the distribution specification's own requests, so that it needs no tool of the node.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import secrets
import socket
import ssl
import tarfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import ClientError
from ..registry import DOCKER_HUB, Namespace, RegistryFacts, Setup

#: One repository for all canaries, listed while one is tried.
_REPOSITORY = "buildset-registry/canary"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_SECONDS = 20
#: What is asked for to leave a line in the registry's ledger: never there, and at no upstream.
_SAID = f"/v2/localhost/{_REPOSITORY}/manifests/said"
#: Characters of it that the ledger keeps.
_LONGEST = 500
#: The one file that is in it.
FILE = "canary"


def digest_of(content: bytes) -> str:
    """Return the digest of content."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Image:
    """An image of one file of random words, as docker of every age takes one."""

    word: str
    layer: bytes = field(repr=False)
    config: bytes = field(repr=False)
    manifest: bytes = field(repr=False)

    @classmethod
    def make(cls, architecture: str) -> Image:
        """Make one for the node's own architecture."""
        word = secrets.token_hex(8)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(FILE)
            entry.size = len(word)
            tar.addfile(entry, io.BytesIO(word.encode()))
        layer = gzip.compress(archive.getvalue())
        rootfs = {"type": "layers", "diff_ids": [digest_of(archive.getvalue())]}
        settings = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}
        config = json.dumps(settings).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
        return cls(word, layer, config, json.dumps(manifest).encode())

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which clients tell images apart."""
        return digest_of(self.manifest)

    @property
    def identity(self) -> str:
        """The digest of the configuration, which podman and buildah call the image's ID."""
        return digest_of(self.config)

    def name(self, namespace: Namespace) -> str:
        """Return the public name of the image in a registry."""
        return f"{namespace.name}/{_REPOSITORY}:{self.word}"

    def path(self, namespace: Namespace) -> str:
        """Return the repository in which the registry has it."""
        prefix = "" if namespace.name == DOCKER_HUB else f"{namespace.path}/"
        return f"{prefix}{_REPOSITORY}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


class PushEndpoint:
    """The push endpoint, over one connection."""

    def __init__(self, registry: RegistryFacts) -> None:
        self.registry = registry
        self.authorization = f"Basic {registry.login}"
        context = ssl.create_default_context(cadata=registry.cert)
        # Python 3.13 began to refuse certificates that the container tools accept.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._connection = http.client.HTTPSConnection(
            registry.push_host, registry.push_port, timeout=_SECONDS, context=context
        )

    def push(self, image: Image, setup: Setup) -> None:
        """Push the image by one name of each registry."""
        first = ""
        for namespace in setup.namespaces:
            path = image.path(namespace)
            self.push_as(image, path, image.word, first)
            first = first or path

    def push_as(self, image: Image, path: str, tag: str, source: str = "") -> None:
        """Push the image into a repository; ``source`` is one that has its blobs already."""
        try:
            for content in (image.config, image.layer):
                self._blob(path, content, source)
            self._ask("PUT", f"/v2/{path}/manifests/{tag}", image.manifest, _MANIFEST)
        except (OSError, http.client.HTTPException) as error:
            # Or the next request would fail by what this one left undone, and hide the reason.
            self._connection.close()
            raise _failure(self.registry, error) from error

    def tell(self, words: str) -> None:
        """Leave what became of the canary in the registry's ledger, for the report on this node.

        It is the agent's name of a request for what is not there, which changes nothing. That it
        cannot be left is no fault of any client.
        """
        # A header has one line, and no character that is none of Latin-1.
        said = " ".join(words.split()).encode("ascii", "backslashreplace").decode()
        agent = f"buildset-registry-canary ({said})"[:_LONGEST]
        headers = {"Authorization": self.authorization, "User-Agent": agent}
        try:
            self._connection.request("HEAD", _SAID, headers=headers)
            self._connection.getresponse().read()
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self._connection.close()

    def remove(self, image: Image, setup: Setup) -> None:
        """Remove all of it, whatever of it there is."""
        digests = [digest_of(content) for content in (image.config, image.layer)]
        parts = [f"manifests/{image.digest}", *(f"blobs/{one}" for one in digests)]
        try:
            for path in map(image.path, setup.namespaces):
                for part in parts:
                    self._ask("DELETE", f"/v2/{path}/{part}", allowed=(202, 404))
        except (OSError, http.client.HTTPException) as error:
            raise _failure(self.registry, error) from error
        finally:
            self._connection.close()

    def _blob(self, path: str, content: bytes, source: str) -> None:
        digest = digest_of(content)
        mount = f"?mount={digest}&from={source}" if source else ""
        status, location = self._ask("POST", f"/v2/{path}/blobs/uploads/{mount}")
        if status == 201:
            return
        parts = urlsplit(location)
        query = f"{parts.query}&" if parts.query else ""
        where = f"{parts.path}?{query}digest={digest}"
        self._ask("PUT", where, content, "application/octet-stream")

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        media_type: str = "",
        allowed: tuple[int, ...] = (200, 201, 202),
    ) -> tuple[int, str]:
        headers = {"Authorization": self.authorization}
        if media_type:
            headers["Content-Type"] = media_type
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status in (401, 403):
            raise ClientError(
                f"canary: auth: {self.registry.push} answers {answer.status}; {_FACTS}"
            )
        if answer.status not in allowed:
            what = f"canary: {self.registry.push} answers {method} {path} with {answer.status}"
            raise ClientError(f"{what}; see the registry's log")
        return answer.status, answer.headers.get("Location", "")


_FACTS = "use the registry's present facts"


def _failure(registry: RegistryFacts, error: Exception) -> ClientError:
    """Name the layer that keeps this node from the registry itself."""
    where = f"{registry.push_host}:{registry.push_port}"
    if isinstance(error, socket.gaierror):
        return ClientError(f"canary: name: {registry.push_host} does not resolve on this node")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error
        return ClientError(f"canary: TLS: cert does not verify {where} ({reason}); {_FACTS}")
    hint = "is the registry running, and does a firewall let this node through?"
    return ClientError(f"canary: network: {where} cannot be reached ({error}); {hint}")
