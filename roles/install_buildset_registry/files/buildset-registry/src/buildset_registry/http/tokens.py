# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol: ``GET /token``, and ``POST /token`` as in OAuth2.

Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs

from buildset_registry.errors import Unsupported
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response

_MAX_FORM = 64 * 1024


async def get(request: Request, context: Context) -> Response:
    """Issue a token for the scopes that the caller may have."""
    scopes = request.query_all.get("scope", [])
    return await _issue(request.headers.get("authorization"), scopes, context)


async def post(request: Request, context: Context) -> Response:
    """Issue a token for a user name and a password in a form."""
    raw = await request.read(_MAX_FORM) or b""
    form = parse_qs(raw.decode("latin-1"))
    if form.get("grant_type", [""])[0] != "password":
        raise Unsupported(
            "only grant_type=password is supported; log in with user name and password"
        )
    user, password = form.get("username", [""])[0], form.get("password", [""])[0]
    basic = b64encode(f"{user}:{password}".encode()).decode()
    return await _issue(f"Basic {basic}", form.get("scope", []), context)


async def _issue(authorization: str | None, scopes: list[str], context: Context) -> Response:
    wanted = [scope for text in scopes for scope in text.split()]
    grant = await context.authenticator.grant(authorization, wanted)
    return json_response(
        {
            "token": grant.token,
            "access_token": grant.token,
            "expires_in": grant.expires_in,
            "issued_at": grant.issued_at,
        },
        headers={"Cache-Control": "no-store"},
    )
