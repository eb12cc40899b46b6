# SPDX-License-Identifier: Apache-2.0
"""Tokens that must not open anything, against a registry in a process of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.api.harness import USER, hash_line
from tests.ports import free_port
from tests.reliability.server import Server

KEY = b"k" * 64
UPLOADS = "/v2/org/app/blobs/uploads/"
#: Each needs the right that a token may have: to push, to pull, to delete, to list.
REQUESTS = [
    ("POST", UPLOADS),
    ("GET", "/v2/org/app/tags/list"),
    ("DELETE", "/v2/org/app/manifests/v1"),
    ("GET", "/v2/_catalog"),
    ("GET", "/v2/"),
]


def signed(key: Any = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    """Return a token that this registry could have made, but for the changes."""
    now = int(time.time())
    actions = ["pull", "push", "delete"]
    claims = {
        "iss": "buildset-registry",
        "aud": "buildset-registry",
        "sub": USER,
        "nbf": now,
        "exp": now + 60,
        "access": [{"type": "repository", "name": "org/app", "actions": actions}],
        "mark": hmac.new(KEY, hash_line().strip().encode(), hashlib.sha256).hexdigest(),
    }
    return jwt.encode({**claims, **changes}, key, algorithm)


@pytest.fixture
def closed(serve: Callable[..., Server]) -> Callable[..., Server]:
    """Start a registry with one port, which nobody uses without a login."""

    def start(name: str, key: bytes = b"") -> Server:
        auth = {"htpasswd": "htpasswd", "anonymous_pull": False}
        if key:
            auth["token_key"] = "token.key"
        single = {"single": {"port": free_port(), "address": "127.0.0.1"}}
        return serve(name, key=key, endpoints=single, auth=auth)

    return start


def status(server: Server, method: str, path: str, token: str) -> int:
    return server.client().ask(method, path, headers={"Authorization": f"Bearer {token}"}).status


def test_bad_tokens_are_refused(closed: Callable[..., Server]) -> None:
    """Forged, expired, unsigned, for somebody else's registry, and one of another registry."""
    server, other = closed("one", KEY), closed("other")
    assert status(server, "POST", UPLOADS, signed()) == 202  # they are good otherwise
    scope = "repository:org/app:pull,push,delete"
    foreign = other.client().ask("GET", f"/token?service=buildset-registry&scope={scope}")
    foreign_token = json.loads(foreign.content)["token"]
    assert status(other, "POST", UPLOADS, foreign_token) == 202
    head, claims, signature = signed().split(".")
    bad = {
        "another key": signed(b"x" * 64),
        "alg none": signed(None, "none"),
        "alg none, signed": f"{signed(None, 'none')}{signature}",
        "no signature": f"{head}.{claims}.",
        "claims changed": f"{head}.{signed(sub='root').split('.')[1]}.{signature}",
        "another algorithm": signed(KEY, "HS512"),
        "expired": signed(exp=int(time.time()) - 1),
        "not valid yet": signed(nbf=int(time.time()) + 1000),
        "another audience": signed(aud="another registry"),
        "another issuer": signed(iss="another registry"),
        "another registry's": foreign_token,
        "nonsense": "a.b.c",
        "nothing": "",
    }
    found = {
        (reason, method, path): status(server, method, path, token)
        for reason, token in bad.items()
        for method, path in REQUESTS
    }
    assert {key: value for key, value in found.items() if value != 401} == {}
    print(f"{len(found)} requests with {len(bad)} kinds of bad tokens, each refused")


def test_a_token_opens_what_it_names_and_no_more(closed: Callable[..., Server]) -> None:
    """Not another repository, not more rights, nor a name that only looks alike."""
    server = closed("one", KEY)
    access = [{"type": "repository", "name": "org/app", "actions": ["pull", "push"]}]
    token = signed(access=access)
    assert status(server, "POST", UPLOADS, token) == 202
    for method, path in [
        ("POST", "/v2/org/other/blobs/uploads/"),
        ("POST", "/v2/org/app/more/blobs/uploads/"),
        ("POST", "/v2/org/blobs/uploads/"),
        ("POST", "/v2/quay.io/org/app/blobs/uploads/"),
        ("POST", f"{UPLOADS}?ns=quay.io"),
        ("GET", "/v2/org/other/tags/list"),
        ("DELETE", "/v2/org/app/manifests/v1"),
        ("GET", "/v2/_catalog"),
    ]:
        assert status(server, method, path, token) == 401, path
    read_only = signed(access=[{**access[0], "actions": ["pull"]}])
    assert status(server, "POST", UPLOADS, read_only) == 401
