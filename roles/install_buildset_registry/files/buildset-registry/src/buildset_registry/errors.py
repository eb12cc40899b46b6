# SPDX-License-Identifier: Apache-2.0
"""Refusals as data: code, HTTP status, default message.

Handlers and stores raise these; one place (``http/app.py``) writes them as the error body of the
OCI distribution specification, section "Error Codes". Nothing here knows HTTP beyond a number.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import ClassVar


class RegistryError(Exception):
    """Refuse a request with a code of the specification.

    ``message`` is one line for people, ``detail`` is any JSON value, ``headers`` go out with the
    answer (for example ``Range`` after a refused chunk).
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    default: ClassVar[str] = "unknown error"
    grant_error: ClassVar[str] = ""
    """What OAuth2 calls it where it is about a token that is asked for."""

    def __init__(
        self,
        message: str = "",
        *,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or self.default
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(self.message)


class BlobUnknown(RegistryError):
    code, status, default = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class BlobHidden(BlobUnknown):
    """Refuse what an upstream does not show to us; it may be there all the same."""


class BlobUploadInvalid(RegistryError):
    code, status, default = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class BlobUploadUnknown(RegistryError):
    code, status, default = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class DigestInvalid(RegistryError):
    code, status, default = "DIGEST_INVALID", 400, "provided digest did not match uploaded content"


class ManifestBlobUnknown(RegistryError):
    code, status, default = (
        "MANIFEST_BLOB_UNKNOWN",
        404,
        "manifest references a manifest or blob unknown to registry",
    )


class ManifestInvalid(RegistryError):
    code, status, default = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestUnknown(RegistryError):
    code, status, default = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"


class ManifestHidden(ManifestUnknown):
    """Refuse what an upstream does not show to us; it may be there all the same."""


class NameInvalid(RegistryError):
    code, status, default = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(RegistryError):
    code, status, default = "NAME_UNKNOWN", 404, "repository name not known to registry"


class SizeInvalid(RegistryError):
    code, status, default = "SIZE_INVALID", 400, "provided length did not match content length"


class Unauthorized(RegistryError):
    # Not distribution's "authentication required": clients built on its library show nothing of a
    # message that equals its own, and docker takes what is left for a fault and tries again.
    code, status, default = "UNAUTHORIZED", 401, "log in to this registry first"


class TokenInvalid(Unauthorized):
    """Refuse a bearer token that is not good here and now (RFC 6750, section 3.1)."""


class Denied(RegistryError):
    code, status, default = "DENIED", 403, "requested access to the resource is denied"


class NoSuchEndpoint(RegistryError):
    code, status, default = "UNSUPPORTED", 404, "no such endpoint; the API is below /v2/"


class Unsupported(RegistryError):
    code, status, default = "UNSUPPORTED", 405, "the operation is unsupported"


class ScopeInvalid(Unsupported):
    """Refuse to issue a token for what is asked (RFC 6749, section 5.2)."""

    status, default = 400, "no token is issued for these scopes"
    grant_error = "invalid_scope"


class TooManyRequests(RegistryError):
    code, status, default = "TOOMANYREQUESTS", 429, "too many requests"


class RequestTimeout(RegistryError):
    """Give up on a client that stopped sending; distribution has no code for it."""

    code, status, default = "UNKNOWN", 408, "the request did not arrive in time"


class TagInvalid(RegistryError):
    """Refuse a tag outside the grammar (a code of distribution, still used by its clients)."""

    code, status, default = "TAG_INVALID", 400, "manifest tag did not match the grammar"


class ManifestTooLarge(ManifestInvalid):
    status, default = 413, "manifest is larger than 4 MiB"


class RangeInvalid(BlobUploadInvalid):
    """Refuse a chunk that does not start where the last one ended."""

    status, default = 416, "chunk is out of order"


class RangeNotSatisfiable(RegistryError):
    code, status, default = "RANGE_INVALID", 416, "range lies outside the content"


class PreconditionFailed(RegistryError):
    code, status, default = "PRECONDITION_FAILED", 412, "the content is not what If-Match names"


class PaginationInvalid(RegistryError):
    code, status, default = "PAGINATION_NUMBER_INVALID", 400, "n must be a number, 0 or more"


class UpstreamFailed(RegistryError):
    """Refuse because another registry could not be asked; the message names it and the reason."""

    code, status, default = "UNKNOWN", 502, "upstream registry failed"


class ImageGone(UpstreamFailed):
    """Refuse an image of another build that the registry which held it has removed.

    Clients pass a message on with this status that they leave out with 404 and 502.
    """

    status, default = 410, "the image of another build was removed"


class UpstreamBusy(TooManyRequests):
    """Pass an upstream's rate limit on, with its Retry-After."""

    default = "upstream registry limits the rate of requests"


class StorageFull(RegistryError):
    code, status, default = "UNKNOWN", 507, "the disk of the registry is full"


def storage_error(error: OSError) -> RegistryError:
    """Return the refusal for a failure of the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull()
    return RegistryError(f"storage failed: {error.strerror}")


class ConfigError(Exception):
    """Refuse to start: one line, what is wrong and what to do."""


#: What PyYAML raises beside its own errors, where a value is not what its tag or its form says.
YAML_FAULTS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
#: A word of the file in what a YAML parser says, such as an alias or a tag; not ``'<block end>'``.
_QUOTED = re.compile(r"""'[!&*]?\w[^']*'|"[!&*]?\w[^"]*\"""")


def yaml_problem(error: Exception) -> str:
    """Return what is wrong in a YAML file, and where, without a word of the file.

    The parser's own message shows the line, which may hold a password.
    """
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    return where + _QUOTED.sub("'...'", " ".join(str(problem or "a value is not valid").split()))


class StoreInUse(ConfigError):
    """Refuse a storage that another process has for itself."""
