# SPDX-License-Identifier: Apache-2.0
"""A session logs in as it is asked to, waits as it is told to, and keeps its login to itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest
from buildset_registry.transfer.errors import TransferError
from buildset_registry.transfer.http_client import HttpClient
from buildset_registry.transfer.session import Call, RegistryLogin, RegistrySession
from buildset_registry.transfer.tries import LONGEST_PAUSE

from tests.unit.transfer.fake_registry import FakeRegistry, Handler, serving, status

SCOPE = "repository:app:pull"
CALL = Call("GET", "/v2/app/manifests/v1", SCOPE)


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were made."""
    return []


@pytest.fixture
def session(source: FakeRegistry, pauses: list[float]) -> Iterator[RegistrySession]:
    """A session at the registry, with a login."""
    source.add_image("app", "v1")
    client = HttpClient(environment={})
    yield RegistrySession(source.url, client, RegistryLogin("user", "pass"), sleep=pauses.append)
    client.close()


def basic(handler: Handler) -> bool:
    """Want a user name and a password."""
    if handler.headers.get("Authorization") == "Basic dXNlcjpwYXNz":
        return False
    return handler.answer(401, {"WWW-Authenticate": 'Basic realm="fake"'})


def test_a_user_name_and_a_password_are_sent_when_asked_for(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """And with every request from then on."""
    source.fail("GET", "/v2/", basic, times=9)
    session.call(CALL, [200]).discard()
    session.call(CALL, [200]).discard()
    assert len(source.requests) == 3


def test_a_login_that_is_refused_is_told_once(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """It is not tried again and again, which may lock the account."""
    source.fail("GET", "/v2/", status(401, WWW_Authenticate="Basic realm=x"), times=9)
    with pytest.raises(TransferError, match="answers 401 to GET /v2/app/manifests/v1; give other"):
        session.call(CALL, [200])
    assert len(source.requests) == 2


def test_a_token_is_asked_for_once_for_each_scope(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """The second scope needs no 401 first."""
    source.token_uses = 9
    session.call(CALL, [200]).discard()
    session.call(CALL, [200]).discard()
    session.call(Call("GET", CALL.path, "repository:other:pull"), [200]).discard()
    assert source.scopes == [[SCOPE], ["repository:other:pull"]]
    assert [path.partition("?")[0] for _method, path in source.requests] == [
        CALL.path,
        "/token",
        CALL.path,
        CALL.path,
        "/token",
        CALL.path,
    ]


def test_a_scope_that_a_registry_wants_is_asked_for_with_that_request_alone(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """Also when its token is renewed; another repository is none of its business."""

    def closed(handler: Handler) -> bool:
        if "Authorization" in handler.headers:
            return False
        realm = f'Bearer realm="{source.url}/token",scope="repository:app:pull extra:all"'
        return handler.answer(401, {"WWW-Authenticate": realm})

    source.fail("GET", "^/v2/app/", closed, times=9)
    session.call(CALL, [200]).discard()
    session.call(Call("GET", CALL.path, "repository:other:pull"), [200]).discard()
    assert source.scopes == [[SCOPE, "extra:all"], ["repository:other:pull"]]


def test_a_token_is_renewed_before_it_ends(source: FakeRegistry, pauses: list[float]) -> None:
    """A minute before is soon enough, its last seconds are not."""
    now = [1000.0]
    source.add_image("app", "v1")
    source.token_uses = 9
    client = HttpClient(environment={})
    session = RegistrySession(source.url, client, clock=lambda: now[0], sleep=pauses.append)
    session.call(CALL, [200]).discard()
    now[0] += 240
    session.call(CALL, [200]).discard()
    assert len(source.tokens) == 1
    now[0] += 55
    session.call(CALL, [200]).discard()
    assert len(source.tokens) == 2
    client.close()


def test_a_bearer_token_is_sent_as_it_is(source: FakeRegistry) -> None:
    """It was issued for what is to be done, and is changed for no other."""
    source.add_image("app", "v1")
    source.token_uses = 9
    source.tokens["given"] = 9
    client = HttpClient(environment={})
    session = RegistrySession(source.url, client, RegistryLogin(token="given"))
    session.call(CALL, [200]).discard()
    assert not source.asked("GET", "/token")
    source.tokens["given"] = 0
    with pytest.raises(TransferError, match="answers 401"):
        session.call(CALL, [200])
    client.close()


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("a date", 90, 101),
        ("soon", 0.5, 0.5),
        (None, 0.5, 0.5),
        ("0", 0.5, 0.5),
    ],
)
def test_a_pause_is_as_long_as_the_registry_says(
    source: FakeRegistry,
    session: RegistrySession,
    pauses: list[float],
    header: str | None,
    least: float,
    most: float,
) -> None:
    """In either of the forms of Retry-After."""
    if header == "a date":
        header = formatdate(time.time() + 100, usegmt=True)
    more = {"Retry_After": header} if header is not None else {}
    source.fail("GET", "/v2/", status(429, **more))
    session.call(CALL, [200]).discard()
    assert len(pauses) == 1
    assert least <= pauses[0] <= most


@pytest.mark.parametrize(("times", "answered"), [(20, True), (999, False)])
def test_a_registry_that_says_when_it_is_free_is_asked_until_it_is(
    source: FakeRegistry,
    session: RegistrySession,
    pauses: list[float],
    times: int,
    answered: bool,
) -> None:
    """Less and less often, and not for ever: uploads of others may take minutes."""
    source.fail("GET", "/v2/", status(429, Retry_After="1"), times=times)
    if answered:
        session.call(CALL, [200]).discard()
        assert len(pauses) == times
    else:
        with pytest.raises(TransferError, match="answers 429"):
            session.call(CALL, [200])
    assert pauses == sorted(pauses)
    assert pauses[0] == 1
    assert sum(pauses) <= LONGEST_PAUSE


def test_a_registry_that_wants_an_hour_is_not_waited_for(
    source: FakeRegistry, session: RegistrySession, pauses: list[float]
) -> None:
    """A job has a time limit, and better fails with the reason."""
    source.fail("GET", "/v2/", status(429, Retry_After="3600"))
    with pytest.raises(TransferError, match="answers 429"):
        session.call(CALL, [200])
    assert not pauses


def test_a_login_is_not_shown_to_where_a_registry_redirects(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """Storage on another host signs its addresses."""
    with serving() as storage:
        storage.add_image("app", "v1")
        source.token_uses = 9
        act: Callable[[Handler], bool] = status(307, Location=f"{storage.url}{CALL.path}")
        source.fail("GET", "manifests", lambda one: "Authorization" in one.headers and act(one), 9)
        session.call(CALL, [200]).discard()
        assert storage.requests
        assert "Authorization" not in storage.headers[0]


def test_where_a_registry_redirects_nobody_asks_for_its_login(
    source: FakeRegistry, session: RegistrySession
) -> None:
    """Neither by a token server of its choice, nor later by the registry's own requests."""
    with serving() as storage:
        realm = f'Bearer realm="{storage.url}/token",service="x"'
        storage.fail("GET", "/v2/", status(401, WWW_Authenticate=realm), times=9)
        source.fail("GET", "/v2/", status(307, Location=f"{storage.url}{CALL.path}"), times=9)
        with pytest.raises(TransferError, match="answers 401"):
            session.call(CALL, [200])
        assert not storage.asked("GET", "/token")
        assert not [one for one in storage.headers if "Authorization" in one]


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://169.254.169.254/latest", "link-local"),
        ("ftp://host/file", "not an https:// URL"),
        ("/v2/app/manifests/v1", "redirects more than"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused(
    source: FakeRegistry, session: RegistrySession, location: str, told: str
) -> None:
    """To a cloud's metadata, to another protocol, or round in circles."""
    source.fail("GET", "manifests", status(302, Location=location), times=99)
    with pytest.raises(TransferError, match=told):
        session.call(CALL, [200])


def test_an_error_has_the_registry_s_words(source: FakeRegistry, session: RegistrySession) -> None:
    """In one line, whatever it sent."""

    def denied(handler: Handler) -> bool:
        body = b'{"errors": [{"code": "DENIED", "message": "quota\\nexceeded"}]}'
        return handler.answer(403, {}, body)

    source.fail("GET", "manifests", denied)
    with pytest.raises(TransferError, match="DENIED: quota exceeded"):
        session.call(CALL, [200])


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 1}', b"\xff", b"x" * 9999])
def test_an_error_without_the_specification_s_body_is_one_line(
    source: FakeRegistry, session: RegistrySession, body: bytes
) -> None:
    """Proxies answer in HTML."""
    source.fail("GET", "manifests", lambda one: one.answer(418, {}, body))
    with pytest.raises(TransferError) as caught:
        session.call(CALL, [200])
    assert str(caught.value).endswith("answers 418 to GET /v2/app/manifests/v1")
