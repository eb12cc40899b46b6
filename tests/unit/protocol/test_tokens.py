# SPDX-License-Identifier: Apache-2.0
"""From a 401 to the header that an upstream accepts."""

import json
import math
import threading
from collections.abc import Generator
from typing import Any

import pytest
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.tokens import (
    Authorization,
    AuthorizationCache,
    Challenge,
    TokenAnswer,
    TokenRequest,
    UnauthorizedResponse,
    authorize,
    basic,
    challenges,
)
from hypothesis import given
from hypothesis import strategies as st

URL = "https://registry.example/v2/org/app/manifests/v1"
SCOPE = "repository:org/app:pull"
SECRET = basic("ci", "secret")
NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z

Login = Generator[TokenRequest, TokenAnswer, Authorization | None]


def answer_with(flow: Login, *answers: TokenAnswer) -> tuple[list[TokenRequest], Any]:
    """Drive a login with the token server's answers; return its requests and the result."""
    asked = []
    try:
        asked.append(next(flow))
        for answer in answers:
            asked.append(flow.send(answer))
    except StopIteration as end:
        return asked, end.value
    raise AssertionError(f"another answer is wanted after {asked}")


def log_in(
    challenge: str, *answers: TokenAnswer, credentials: str | None = None, url: str = URL
) -> tuple[list[TokenRequest], Any]:
    response = UnauthorizedResponse(url, challenges([challenge]), SCOPE)
    return answer_with(authorize(response, credentials, lambda: NOW), *answers)


def granted(**tree: object) -> TokenAnswer:
    return TokenAnswer(200, json.dumps({"token": "t0k3n", **tree}).encode())


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (['Bearer realm="https://a/b",service="c,d"'], [("bearer", "https://a/b", "c,d")]),
        (['Basic realm="say \\"hello\\""'], [("basic", 'say "hello"', None)]),
        (['BEARER Realm = "r" , Service = s'], [("bearer", "r", "s")]),
        (["Bearer realm=https://a/b?c=d,service=s"], [("bearer", "https://a/b?c=d", "s")]),
        (
            ['Basic realm="x", Bearer realm="y", service="z"'],
            [("basic", "x", None), ("bearer", "y", "z")],
        ),
        (["Negotiate", 'Basic realm="x"'], [("negotiate", None, None), ("basic", "x", None)]),
        (
            ["Negotiate YWJj==, Basic realm=x"],
            [("negotiate", None, None), ("basic", "x", None)],
        ),
        (['Bearer realm="one", realm="two"'], [("bearer", "one", None)]),
        (['realm="without a scheme"'], []),
        (["", " , ", '"'], []),
    ],
)
def test_challenges_are_parsed(
    headers: list[str], found: list[tuple[str, str | None, str | None]]
) -> None:
    """Several in one header or in several, quoted commas, either case."""
    parsed = challenges(headers)
    assert [
        (one.scheme, one.parameters.get("realm"), one.parameters.get("service")) for one in parsed
    ] == found


@given(st.lists(st.text()))
def test_any_header_is_parsed(headers: list[str]) -> None:
    """Nonsense from an upstream causes no error, and takes no time."""
    assert all(isinstance(one, Challenge) for one in challenges(headers))


def test_a_token_server_is_asked_for_the_repository() -> None:
    """Service and scope go into the query, after what the realm has in its own."""
    asked, login = log_in('Bearer realm="https://auth.example/token?a=b",service="x y"', granted())
    assert asked == [
        TokenRequest(f"https://auth.example/token?a=b&service=x%20y&scope={SCOPE}", None)
    ]
    assert login.header == "Bearer t0k3n"


def test_the_challenge_knows_the_scope_best() -> None:
    """Several scopes are several parameters; without a service there is none."""
    asked, _ = log_in('Bearer realm="https://auth.example/token",scope="a:b:c aws"', granted())
    assert asked[0].url == "https://auth.example/token?scope=a:b:c&scope=aws"


def test_credentials_go_to_the_token_server() -> None:
    """It may be on another host."""
    asked, _ = log_in('Bearer realm="https://auth.example/t"', granted(), credentials=SECRET)
    assert [one.authorization for one in asked] == ["Basic Y2k6c2VjcmV0"]


def test_where_credentials_are_refused_everybody_s_token_is_taken() -> None:
    """A wrong password does not hide public images."""
    asked, login = log_in(
        'Bearer realm="https://auth.example/t"',
        TokenAnswer(401, b""),
        granted(),
        credentials=SECRET,
    )
    assert [one.authorization for one in asked] == [SECRET, None]
    assert login.header == "Bearer t0k3n"


def test_where_everybody_is_refused_there_is_no_login() -> None:
    """The refusal of the registry stands then."""
    asked, login = log_in('Bearer realm="https://auth.example/t"', TokenAnswer(403, b""))
    assert (len(asked), login) == (1, None)


@pytest.mark.parametrize(
    ("realm", "sent"),
    [
        ("http://registry.example:5000/token", SECRET),
        ("http://registry.example/token", None),
        ("http://auth.example:5000/token", None),
        ("https://auth.example/token", SECRET),
    ],
)
def test_an_upstream_without_tls_gets_credentials_itself_only(realm: str, sent: str | None) -> None:
    """In the clear they go to the server that the configuration names, and nowhere else."""
    asked, _ = log_in(
        f'Bearer realm="{realm}"',
        granted(),
        credentials=SECRET,
        url="http://registry.example:5000/v2/org/app/blobs/x",
    )
    assert asked[0].authorization == sent


def test_a_token_server_without_tls_is_refused() -> None:
    """An upstream with TLS does not lead out of it."""
    with pytest.raises(UpstreamError, match="without TLS"):
        log_in('Bearer realm="http://auth.example/token"', granted(), credentials=SECRET)


def test_basic_authentication_uses_the_credentials() -> None:
    """Without a token server they are the login, for good."""
    assert log_in('Basic realm="x"', credentials=SECRET) == ([], Authorization(SECRET, math.inf))


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", "Bearer", ""])
def test_without_a_way_in_there_is_no_login(challenge: str) -> None:
    """Nobody's credentials are asked for."""
    assert log_in(challenge) == ([], None)


def test_credentials_are_encoded_as_utf_8() -> None:
    """RFC 7617 says so for servers of today."""
    assert basic("ü", "p:w") == "Basic w7w6cDp3"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({}, 50),
        ({"expires_in": 300}, 290),
        ({"expires_in": 12}, 6),
        ({"expires_in": "soon"}, 50),
        ({"expires_in": -1}, 0),
        ({"expires_in": 10**400}, 86390),
        ({"expires_in": -(10**400)}, 0),
        ({"expires_in": math.nan}, 0),
        ({"expires_in": 300, "issued_at": "2023-11-14T22:12:20Z"}, 230),
        ({"expires_in": 300, "issued_at": "2023-11-14T22:12:20.123456789Z"}, 230),
        ({"expires_in": 300, "issued_at": "2023-11-15T00:12:20+02:00"}, 230),
        ({"expires_in": 300, "issued_at": "2023-11-14T22:00:00Z"}, 0),
        ({"expires_in": 300, "issued_at": "2030-01-01T00:00:00Z"}, 290),
        ({"expires_in": 300, "issued_at": "2023-99-14T22:12:20Z"}, 290),
        ({"expires_in": 300, "issued_at": "yesterday"}, 290),
        ({"expires_in": 300, "issued_at": 7}, 290),
    ],
)
def test_a_token_is_used_until_shortly_before_its_end(answer: dict[str, Any], seconds: int) -> None:
    """By the answer's own words, or a minute."""
    _, login = log_in('Bearer realm="https://auth.example/t"', granted(**answer))
    assert login.expires - NOW == pytest.approx(seconds)


def test_a_token_may_have_its_other_name() -> None:
    """OAuth 2 calls it access_token."""
    answer = TokenAnswer(200, b'{"access_token": "other"}')
    _, login = log_in('Bearer realm="https://auth.example/t"', answer)
    assert login.header == "Bearer other"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"<html>", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nb"}', b"[" * 100_000],
)
def test_an_answer_without_a_token_is_refused(body: bytes) -> None:
    """A header can be made of visible characters only."""
    with pytest.raises(UpstreamError, match="answers without a token"):
        log_in('Bearer realm="https://auth.example/t"', TokenAnswer(200, body))


def test_the_cache_keeps_a_login_while_it_is_good() -> None:
    """Another scope has its own; what is out of date is forgotten."""
    now = [100.0]
    cache = AuthorizationCache(lambda: now[0])
    cache.put(("a", "x"), Authorization("Bearer one", 110.0))
    cache.put(("b", "x"), Authorization("Bearer two", 200.0))
    assert cache.get(("a", "x")) == "Bearer one"
    assert cache.get(("a", "y")) is None
    now[0] = 110.0
    assert cache.get(("a", "x")) is None
    assert cache.get(("b", "x")) == "Bearer two"
    cache.put(("c", "x"), Authorization("Bearer three"))
    assert cache.get(("c", "x")) == "Bearer three"


def test_secrets_do_not_show_in_a_repr() -> None:
    """A value in a traceback or a log line tells none."""
    shown = repr(
        [Authorization("s3cret"), TokenRequest("u", "s3cret"), TokenAnswer(200, b"s3cret")]
    )
    assert "s3cret" not in shown


def test_a_token_is_kept_while_another_thread_looks_for_those_that_ended() -> None:
    """A copy gets them for many repositories at once."""
    reader, writing, reading = threading.current_thread(), threading.Event(), threading.Event()

    class Key(str):
        """One that is written when the reader has begun."""

        __slots__ = ()

        def __hash__(self) -> int:
            writing.set()
            reading.wait(10)
            return str.__hash__(self)

    class Moment(float):
        """One that the reader has looked at when the writer has ended."""

        def __gt__(self, now: float) -> bool:
            if threading.current_thread() is reader:
                reading.set()
                writer.join(10)
            return True

    cache = AuthorizationCache(lambda: 0.0)
    writer = threading.Thread(target=cache.put, args=(Key("two"), Authorization("2")))
    cache.put("one", Authorization("1", Moment(9)))
    writer.start()
    assert writing.wait(10)
    cache.put("three", Authorization("3"))
    assert (cache.get("one"), cache.get("three")) == ("1", "3")
