# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol: ``GET /token``, and ``POST /token`` as in OAuth2.

Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from buildset_registry.auth.authenticator import Grant, GrantRequest
from buildset_registry.errors import ScopeInvalid, Unsupported
from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response
from buildset_registry.protocol.tokens import basic

_MAX_FORM = 64 * 1024


async def get(request: Request, context: Context) -> Response:
    """Issue a token for the scopes that the caller may have.

    ``expires_in`` asks for the life of a token for single images, in seconds.
    """
    offline = request.query.get("offline_token") == "true"
    grant = await context.authenticator.grant(
        request.headers.get("authorization"),
        GrantRequest(_split(request.query_all.get("scope", [])), offline, _seconds(request.query)),
        request.client,
    )
    return await _answer(grant, context)


async def post(request: Request, context: Context) -> Response:
    """Issue a token for a user name and a password in a form, or for a refresh token."""
    raw = await request.read(_MAX_FORM)
    if raw is None:
        told = f"a form of more than {_MAX_FORM} bytes is not read; ask for fewer scopes"
        raise ScopeInvalid(told)
    fields = parse_qs(raw.decode("latin-1"))
    form = {key: values[0] for key, values in fields.items()}
    asked = GrantRequest(
        _split(fields.get("scope", [])), form.get("access_type") == "offline", _seconds(form)
    )
    kind = form.get("grant_type")
    if kind == "refresh_token":
        refreshed = context.authenticator.refresh(form.get("refresh_token", ""), asked)
        return await _answer(refreshed, context)
    if kind != "password":
        raise Unsupported("grant_type must be password or refresh_token")
    login = basic(form.get("username", ""), form.get("password", ""))
    grant = await context.authenticator.grant(login, asked, request.client)
    return await _answer(grant, context)


def _split(scopes: list[str]) -> list[str]:
    """Return single scopes: clients repeat the field, or put several into one."""
    return [scope for text in scopes for scope in text.split()]


def _seconds(form: Mapping[str, str]) -> int | None:
    """Return for how long a token is to live, where the form says so."""
    text = form.get("expires_in")
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 10 or not int(text):
        raise Unsupported("expires_in must be a number of seconds, 1 or more")
    return int(text)


async def _answer(grant: Grant, context: Context) -> Response:
    """Hand a token out; what it names stays until it ends, which is written before."""
    token = grant.token
    if context.leases is not None and grant.images:
        await context.leases.take(grant.images, token.expires_in)
    tree = {
        "token": token.token,
        "access_token": token.token,
        "expires_in": token.expires_in,
        "issued_at": token.issued_at,
    }
    if any(scope.reference is not None for scope in grant.scopes):
        # What is granted, and is less where it is less (RFC 6749, section 5.1): by this whoever
        # asks sees that the registry knows tokens for single images.
        tree["scope"] = " ".join(str(scope) for scope in grant.scopes if scope.actions)
    if grant.refresh_token is not None:
        tree["refresh_token"] = grant.refresh_token
    return json_response(tree, headers={"Cache-Control": "no-store"})
