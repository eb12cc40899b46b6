# SPDX-License-Identifier: Apache-2.0
"""SHA-256 whose state can be written down: another process goes on with what one has begun.

Python's own cannot. OpenSSL's first interface can: its ``SHA256_CTX`` is 112 bytes, the same in all
its releases (openssl/sha.h). It is deprecated, so it is tried before it is used; without it, an
upload that went on elsewhere is read once more.
"""

from __future__ import annotations

import _hashlib
import ctypes
import ctypes.util
import hashlib
from collections.abc import Iterable
from functools import lru_cache

from buildset_registry.errors import BlobUploadUnknown
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.store.objects.dialect import Objects

_STATE_BYTES = 112
_DIGEST_BYTES = 32
_TRIED = b"tried"


class ResumableSha256:
    """A running SHA-256 and its state."""

    def __init__(self, library: ctypes.CDLL, state: bytes | None = None) -> None:
        self._library = library
        self._context = ctypes.create_string_buffer(_STATE_BYTES)
        if state is None:
            library.SHA256_Init(self._context)
        else:
            self._context.raw = state

    @property
    def state(self) -> bytes:
        """What another one goes on from."""
        return self._context.raw

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash more data."""
        self._library.SHA256_Update(self._context, bytes(data), len(data))

    def hexdigest(self) -> str:
        """Return the hash of the data so far."""
        copy = ctypes.create_string_buffer(self._context.raw, _STATE_BYTES)
        digest = ctypes.create_string_buffer(_DIGEST_BYTES)
        self._library.SHA256_Final(digest, copy)
        return digest.raw.hex()


class RunningDigest:
    """The digest of what has arrived; another process goes on with it, if both can."""

    def __init__(self, known: Digest | None) -> None:
        """Begin with nothing; a digest that is known is only to be compared with."""
        self.algorithm = "sha256" if known is None else known.algorithm
        begun = resumable() if known is None else None
        self._hash: Hasher | None = begun or hasher(self.algorithm)

    def resume(self, state: bytes | None, content: bytes | None) -> None:
        """Go on with a state, or with all content; without both it has to be read once more."""
        if state is not None:
            self._hash = resumable(state)
        elif content is not None:
            self._hash = resumable() or hasher("sha256")
            self._hash.update(content)
        else:
            self._hash = None

    @property
    def state(self) -> bytes | None:
        """What another one goes on from."""
        return self._hash.state if isinstance(self._hash, ResumableSha256) else None

    def update(self, chunk: bytes) -> None:
        """Hash what arrived."""
        if self._hash is not None:
            self._hash.update(chunk)

    def hexdigest(self, algorithm: str) -> str | None:
        """Return it; None where that is not known."""
        known = self._hash is not None and algorithm == self.algorithm
        return self._hash.hexdigest() if known and self._hash is not None else None


def digest_of(pieces: Iterable[bytes], algorithm: str) -> str:
    """Return the digest of content, in hexadecimal."""
    running = hashlib.new(algorithm)
    for piece in pieces:
        running.update(piece)
    return running.hexdigest()


async def object_digest(objects: Objects, key: str, algorithm: str) -> str:
    """Read what came of an upload, and return its digest in hexadecimal; ``BlobUploadUnknown``."""
    opened = await objects.get(key)
    if opened is None:
        raise BlobUploadUnknown
    running = hashlib.new(algorithm)
    async for piece in opened.chunks:
        running.update(piece)
    return running.hexdigest()


def resumable(state: bytes | None = None) -> ResumableSha256 | None:
    """Begin a SHA-256, or go on with one; None where this Python's OpenSSL cannot, or the state
    is none."""
    library = _library()
    if library is None or (state is not None and len(state) != _STATE_BYTES):
        return None
    return ResumableSha256(library, state)


@lru_cache(1)
def _library() -> ctypes.CDLL | None:
    """Find the functions, in the library that Python itself uses first, and try them."""
    for name in (getattr(_hashlib, "__file__", None), None, ctypes.util.find_library("crypto")):
        try:
            library = ctypes.CDLL(name)
            library.SHA256_Init.argtypes = [ctypes.c_void_p]
            library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
            library.SHA256_Final.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        except (OSError, AttributeError):
            continue
        first = ResumableSha256(library)
        first.update(_TRIED * 100)
        second = ResumableSha256(library, first.state)
        second.update(_TRIED)
        if second.hexdigest() == hashlib.sha256(_TRIED * 101).hexdigest():
            return library
    return None
