# SPDX-License-Identifier: Apache-2.0
"""A session with the upstreams: logs in where one asks for that, tries again where that helps."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from buildset_registry.protocol import resume
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.tokens import (
    Authorization,
    AuthorizationCache,
    TokenAnswer,
    UnauthorizedResponse,
    authorize,
    challenges,
)
from buildset_registry.protocol.urls import origin, server
from buildset_registry.upstream.counters import RateLimit, UpstreamCounters
from buildset_registry.upstream.hosts import Host, RemoteAccount, RepositoryRequest, UpstreamRequest

if TYPE_CHECKING:
    from buildset_registry.upstream.transport import Transport, UpstreamResponse

_MAX_TOKEN_ANSWER = 1024 * 1024
#: Characters of what a registry says that are passed on.
_LONGEST = 300

_log = logging.getLogger("buildset_registry.upstream")
_Result = TypeVar("_Result")


class Session:
    """Sends requests to every host, and remembers what logged it in there."""

    def __init__(
        self,
        transport: Transport,
        counters: UpstreamCounters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._counters = counters
        self._clock = clock
        self._cache = AuthorizationCache(clock)
        self._logins: WeakValueDictionary[RemoteAccount, asyncio.Lock] = WeakValueDictionary()

    async def ask(
        self,
        host: Host,
        request: RepositoryRequest,
        read: Callable[[UpstreamResponse], Awaitable[_Result]],
    ) -> _Result:
        """Return what ``read`` makes of the answer, or raise the refusal that names the upstream.

        ``read`` leaves the answer open where it hands it on.
        """
        pauses = iter(host.pauses)
        while True:
            try:
                return await self._try(host, request, read)
            except UpstreamError as error:
                pause = next(pauses, None)
                if pause is None or not error.transient:
                    raise host.failed(error) from None
            if request.method == "HEAD":  # what fails by HEAD alone may go by GET
                request = replace(request, method="GET")
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    async def _try(
        self,
        host: Host,
        request: RepositoryRequest,
        read: Callable[[UpstreamResponse], Awaitable[_Result]],
    ) -> _Result:
        response = await self._answer(host, request)
        if request.method == "HEAD" and not _is_answer_to_head(response):
            await response.discard()
            request = replace(request, method="GET")
            response = await self._answer(host, request)
        try:
            if host.upstream.token and request.is_missing(response.status):
                raise host.lacks(request, await _told(response))
            _check(host, request, response)
            return await read(response)
        except BaseException:
            response.close()
            raise

    async def _answer(self, host: Host, request: RepositoryRequest) -> UpstreamResponse:
        """Send a request, and again with a login where the host asks for one, or the registry
        that it redirects to; storage does not get to ask for a login."""
        sent: dict[RemoteAccount, str | None] = {}
        given: dict[RemoteAccount, str] = {}
        while True:
            response = await self._send(host, request, partial(self._known, sent, given))
            account = host.account_at(response.url)
            if response.status != 401 or account is None or account.token or account in given:
                return response
            await response.discard()
            header = await self._log_in(host, account, response, sent.get(account))
            if header is None:
                return response
            given[account] = header

    def _known(
        self,
        sent: dict[RemoteAccount, str | None],
        given: dict[RemoteAccount, str],
        account: RemoteAccount,
    ) -> str | None:
        """Return the header that is known for an account, and note that it is sent.

        One that was given for this very request is sent, also where it is out of date by the clock
        here: the clock may be wrong, and the registry knows better.
        """
        known = account.token or given.get(account) or self._cache.get(account)
        sent[account] = known
        return known

    async def _send(
        self, host: Host, request: RepositoryRequest, known: Callable[[RemoteAccount], str | None]
    ) -> UpstreamResponse:
        def login(url: str) -> str | None:
            account = RemoteAccount.anonymous(url)
            return None if account is None else known(account)

        headers = dict(request.headers)
        authorization = known(host.account)
        if authorization is not None:
            headers["Authorization"] = authorization
        url = f"{host.url}/{request.path}"
        status = "failed"
        try:
            whole = replace(host.request(request.method, url, headers), login=login)
            response = await self._transport.send(whole)
            status = str(response.status)
            if whole.method == "GET" and status == "200" and request.path.startswith("manifests/"):
                self._counters.pulls[host.upstream.name] += 1
            if "ratelimit-limit" in response.headers:
                self._note_limit(host, response.headers)
            return response
        finally:
            self._counters.requests[host.upstream.name, request.method, status] += 1

    def _note_limit(self, host: Host, headers: Mapping[str, str]) -> None:
        """Note how many pulls an upstream still allows, and warn once when few are left.

        Docker Hub tells it with each manifest; HEAD costs none.
        """
        found, limits = RateLimit.read(headers, self._clock()), self._counters.limits
        if found is None:
            return
        name = host.upstream.name
        before = limits.get(name)
        limits[name] = found
        if found.low and (before is None or not before.low):
            advice = "set a mirror of it" if host.upstream.username else "log in or set a mirror"
            _log.warning("upstream %s: %s; %s in its configuration", name, found, advice)

    async def _log_in(
        self, host: Host, account: RemoteAccount, response: UpstreamResponse, refused: str | None
    ) -> str | None:
        """Get another header than the refused one; those who wait share one login."""
        lock = self._logins.setdefault(account, asyncio.Lock())
        async with lock:
            known = self._cache.get(account)
            if known is not None and known != refused:
                return known
            authorization = await self._authorize(host, account, response)
            if authorization is None:
                return None
            self._cache.put(account, authorization)
            return authorization.header

    async def _authorize(
        self, host: Host, account: RemoteAccount, response: UpstreamResponse
    ) -> Authorization | None:
        unauthorized = UnauthorizedResponse(
            response.url, challenges(response.challenges), account.scope
        )
        flow = authorize(unauthorized, account.credentials, self._clock)
        try:
            token_request = next(flow)
            while True:
                whole = replace(
                    host.request("GET", token_request.url, token_request.headers),
                    reach=response.reach(token_request.url),
                )
                token_request = flow.send(await self._ask_token_server(host, whole))
        except StopIteration as end:
            found: Authorization | None = end.value
            return found

    async def _ask_token_server(self, host: Host, request: UpstreamRequest) -> TokenAnswer:
        name = server(request.url)
        try:
            response = await self._transport.send(request)
            body = await response.read(_MAX_TOKEN_ANSWER)
        except UpstreamError as error:
            raise UpstreamError(
                f"its token server {name}: {error.reason}", transient=error.transient
            ) from None
        if response.status == 429:
            raise host.busy(response.headers)
        if response.status >= 500:
            raise UpstreamError(
                f"its token server {name} answers {response.status}", transient=True
            )
        if request.headers and response.status in (401, 403):
            _log.warning("upstream %s refuses its credentials", host.upstream.name)
        return TokenAnswer(response.status, body)


def _is_answer_to_head(response: UpstreamResponse) -> bool:
    """Tell whether GET need not be asked: HEAD decides nothing that GET would decide otherwise.

    Registries and firewalls refuse HEAD of what they hand out, S3 signs an address for one method,
    and some servers leave the length out or say 0.
    """
    if response.status == 200:
        return bool(resume.length(response.headers)) and not response.coding
    return response.status == 429 or (response.status >= 500 and response.status != 501)


async def _told(response: UpstreamResponse) -> str:
    """Return what a registry says of what it has no more, in one line: when it was removed, say."""
    if response.method == "HEAD":
        return ""
    try:
        tree = json.loads(await response.read(_MAX_TOKEN_ANSWER))
        text = str(tree["errors"][0]["message"])
    except (UpstreamError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:_LONGEST]


def _check(host: Host, request: RepositoryRequest, response: UpstreamResponse) -> None:
    """Raise the refusal, or the error, that a status means."""
    status = response.status
    if status == 200 or (status in (206, 416) and "Range" in request.headers):
        return
    account = host.account_at(response.url)
    if status in (401, 403) and account is not None:
        raise host.denies(request, account)
    if request.is_missing(status):
        raise host.lacks(request)
    if status == 429:
        raise host.busy(response.headers)
    where = f"{server(response.url)} " if origin(response.url) != origin(host.url) else ""
    retry_after = response.headers.get("Retry-After")
    transient = status >= 500 and retry_after is None
    raise UpstreamError(f"{where}answers {status}", transient=transient, retry_after=retry_after)
