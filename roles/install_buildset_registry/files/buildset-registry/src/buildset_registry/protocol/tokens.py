# SPDX-License-Identifier: Apache-2.0
"""Logging in at an upstream: from its 401 to the header that it accepts; no I/O.

The protocol is distribution's token authentication (``Bearer`` challenges of RFC 6750 that name a
token server; its form of OAuth2 for refresh tokens), and plain ``Basic`` (RFC 7617). ``authorize``
yields what to ask a token server and is sent the answer; whoever drives it moves the bytes.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from .errors import UpstreamError
from .urls import onward, origin

#: How long a token is valid where the answer does not tell, by the protocol.
_DEFAULT_SECONDS = 60.0
_LONGEST_SECONDS = 86400.0
#: A token is not used in its last seconds, which may pass on the way.
_MARGIN = 10.0

_WORD = r"[!#$%&'*+.^_`|~\w-]+"
# RFC 9110, 11.2 and 11.6.1; unquoted values are taken as wide as some servers write them:
#   challenge   auth-scheme [ 1*SP ( token68 / #auth-param ) ]
#   auth-param  token BWS "=" BWS ( token / quoted-string )
_PARAMETER_OR_SCHEME = re.compile(
    rf"""[\s,]*(?:
        (?P<key>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))
        | (?P<scheme>{_WORD})(?:[ ]+[\w.~+/-]+=*(?=\s*(?:,|$)))?
    )""",
    re.VERBOSE | re.ASCII,
)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in, as a 401 offers it; names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnauthorizedResponse:
    """A 401: the URL that was asked for, and the challenges of the upstream."""

    url: str
    challenges: tuple[Challenge, ...]
    scope: str
    """The scope of the token where the challenge does not say it."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A GET that asks a token server, or a POST where there is a form."""

    url: str
    authorization: str | None = field(repr=False)
    form: bytes | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers to send."""
        if self.form is not None:
            return {"Content-Type": "application/x-www-form-urlencoded"}
        return {"Authorization": self.authorization} if self.authorization else {}


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The answer of a token server that neither failed nor limited the rate."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of an ``Authorization`` header, and until when it is good."""

    header: str = field(repr=False)
    expires: float = math.inf


class AuthorizationCache:
    """Headers that registries accepted, by the account there, for as long as they are good."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[Hashable, Authorization] = {}

    def get(self, key: Hashable) -> str | None:
        """Return the header to send, if there is one that is still good."""
        known = self._known.get(key)
        return known.header if known is not None and self._clock() < known.expires else None

    def put(self, key: Hashable, authorization: Authorization) -> None:
        """Keep it, and forget what is out of date."""
        now = self._clock()
        good = {one: held for one, held in self._known.items() if now < held.expires}
        # In one step: another thread may be going through what is known.
        self._known = {**good, key: authorization}


def basic(username: str, password: str) -> str:
    """Return the header that carries credentials (RFC 7617, in UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse the values of ``WWW-Authenticate``; what cannot be parsed ends a value."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position = 0
        while item := _PARAMETER_OR_SCHEME.match(header, position):
            position = item.end()
            if item["scheme"]:
                found.append((item["scheme"].lower(), {}))
            elif found:
                quoted = item["quoted"]
                value = item["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1][1].setdefault(item["key"].lower(), value)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def authorize(
    response: UnauthorizedResponse,
    credentials: str | None,
    clock: Callable[[], float],
    refresh_token: str = "",
) -> Generator[TokenRequest, TokenAnswer, Authorization | None]:
    """Find the header that answers a 401; ``None`` where there is none.

    ``credentials`` are a ``Basic`` header; instead of them there may be a token that is changed for
    others. Where a token server refuses them, it is asked for what everybody gets.
    """
    for challenge in response.challenges:
        if challenge.scheme == "bearer" and "realm" in challenge.parameters:
            for request in _token_requests(response, challenge, credentials, refresh_token):
                answer = yield request
                if answer.status == 200:
                    return _token(answer.body, clock())
            return None
    if credentials is not None and any(one.scheme == "basic" for one in response.challenges):
        return Authorization(credentials)
    return None


def _token_requests(
    response: UnauthorizedResponse,
    challenge: Challenge,
    credentials: str | None,
    refresh_token: str,
) -> list[TokenRequest]:
    """Return what to ask a token server: with a login where there is one, then without."""
    realm = onward(response.url, challenge.parameters["realm"])
    anonymous = TokenRequest(_token_url(realm, challenge.parameters, response.scope), None)
    if _may_have_credentials(response.url, realm):
        if refresh_token:
            form = _refresh_form(challenge.parameters, response.scope, refresh_token)
            return [TokenRequest(realm, None, form), anonymous]
        if credentials is not None:
            return [replace(anonymous, authorization=credentials), anonymous]
    return [anonymous]


def _may_have_credentials(url: str, realm: str) -> bool:
    """Tell whether an upstream's credentials may go to its token server: never in the clear.

    An upstream without TLS is told them in the clear because the configuration says ``http://``;
    that holds for this server, not for others.
    """
    return origin(realm)[0] == "https" or origin(realm) == origin(url)


def _token_url(realm: str, parameters: Mapping[str, str], scope: str) -> str:
    """Return the token server's URL; several scopes are several parameters."""
    scopes = parameters.get("scope", "").split() or [scope]
    query = [("scope", one) for one in scopes]
    if "service" in parameters:
        query.insert(0, ("service", parameters["service"]))
    parts = urlsplit(realm)
    added = urlencode(query, quote_via=quote, safe="/:,")
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def _refresh_form(parameters: Mapping[str, str], scope: str, refresh_token: str) -> bytes:
    """Return what changes a refresh token for one of some scopes (RFC 6749, section 6)."""
    fields = {
        "grant_type": "refresh_token",
        "service": parameters.get("service", ""),
        "client_id": "buildset-registry",
        "scope": parameters.get("scope") or scope,
        "refresh_token": refresh_token,
    }
    return urlencode(fields).encode()


def _token(body: bytes, now: float) -> Authorization:
    """Read the token server's answer; the older name of the token is ``token``."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        tree = None
    known = tree if isinstance(tree, dict) else {}
    value = known.get("token") or known.get("access_token")
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
        raise UpstreamError("its token server answers without a token")
    seconds = known.get("expires_in")
    if not isinstance(seconds, int | float):
        seconds = _DEFAULT_SECONDS
    # Any number is one of JSON: what is no time, or none that is left, is 0.
    left = max(0.0, min(seconds, _LONGEST_SECONDS)) - _age(known.get("issued_at"), now)
    # A token that is out of date by our clock is tried once: the clock may be wrong.
    return Authorization(f"Bearer {value}", now + max(left - _MARGIN, left / 2, 0.0))


def _age(issued_at: object, now: float) -> float:
    """Return the seconds since a token was made; servers may hand one out again."""
    match = _RFC3339.fullmatch(issued_at) if isinstance(issued_at, str) else None
    if match is None:
        return 0.0
    try:
        # Python 3.10 reads neither Z nor fractions of other lengths than 3 and 6 digits.
        moment = datetime.fromisoformat(match[1] + match[2].upper().replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return max(now - moment.timestamp(), 0.0)
