# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol: ``GET /token``, and ``POST /token`` as in OAuth2.

Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs

from buildset_registry.auth.authenticator import Grant
from buildset_registry.errors import Unsupported
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response

_MAX_FORM = 64 * 1024


async def get(request: Request, context: Context) -> Response:
    """Issue a token for the scopes that the caller may have."""
    offline = request.query.get("offline_token") == "true"
    grant = await context.authenticator.grant(
        request.headers.get("authorization"),
        _split(request.query_all.get("scope", [])),
        request.client,
        offline=offline,
    )
    return _answer(grant)


async def post(request: Request, context: Context) -> Response:
    """Issue a token for a user name and a password in a form, or for a refresh token."""
    raw = await request.read(_MAX_FORM) or b""
    fields = parse_qs(raw.decode("latin-1"))
    form = {key: values[0] for key, values in fields.items()}
    scopes = _split(fields.get("scope", []))
    kind = form.get("grant_type")
    if kind == "refresh_token":
        return _answer(context.authenticator.refresh(form.get("refresh_token", ""), scopes))
    if kind != "password":
        raise Unsupported("grant_type must be password or refresh_token")
    pair = f"{form.get('username', '')}:{form.get('password', '')}"
    grant = await context.authenticator.grant(
        f"Basic {b64encode(pair.encode()).decode()}",
        scopes,
        request.client,
        offline=form.get("access_type") == "offline",
    )
    return _answer(grant)


def _split(scopes: list[str]) -> list[str]:
    """Return single scopes: clients repeat the field, or put several into one."""
    return [scope for text in scopes for scope in text.split()]


def _answer(grant: Grant) -> Response:
    token = grant.token
    tree = {
        "token": token.token,
        "access_token": token.token,
        "expires_in": token.expires_in,
        "issued_at": token.issued_at,
    }
    if grant.refresh_token is not None:
        tree["refresh_token"] = grant.refresh_token
    return json_response(tree, headers={"Cache-Control": "no-store"})
