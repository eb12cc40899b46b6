# SPDX-License-Identifier: Apache-2.0
"""One question to one site: logged in where it asks for that, and tried again where that helps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from buildset_registry.errors import Failure
from buildset_registry.upstream.counters import UpstreamCounters
from buildset_registry.upstream.hosts import Host, Question
from buildset_registry.upstream.tokens import (
    Authorization,
    AuthorizationCache,
    LoginRequest,
    TokenAnswer,
    TokenRequest,
    authorize,
    challenges,
)
from buildset_registry.upstream.urls import origin

if TYPE_CHECKING:
    from buildset_registry.upstream.transport import Transport, UpstreamResponse

_MAX_TOKEN_ANSWER = 1024 * 1024

_log = logging.getLogger("buildset_registry.upstream")
_Result = TypeVar("_Result")


class Session:
    """Speaks for the client with every site, and remembers what logged it in."""

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
        self._logins: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def ask(
        self, site: Host, wanted: Question, use: Callable[[UpstreamResponse], Awaitable[_Result]]
    ) -> _Result:
        """Return what ``use`` makes of the answer, or raise the refusal that names the upstream.

        ``use`` leaves the answer open where it hands it on.
        """
        pauses = iter(site.pauses)
        while True:
            try:
                return await self._try(site, wanted, use)
            except Failure as failure:
                pause = next(pauses, None)
                if pause is None or not failure.passing:
                    raise site.failed(failure) from None
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    async def _try(
        self, site: Host, wanted: Question, use: Callable[[UpstreamResponse], Awaitable[_Result]]
    ) -> _Result:
        response = await self._answer(site, wanted)
        if wanted.method == "HEAD" and _takes_no_head(site, response):
            await response.discard()
            wanted = replace(wanted, method="GET")
            response = await self._answer(site, wanted)
        try:
            _check(site, wanted, response)
            return await use(response)
        except BaseException:
            response.close()
            raise

    async def _answer(self, site: Host, wanted: Question) -> UpstreamResponse:
        """Send the question, and once more with a login where the site asks for one."""
        known = self._cache.get((site.url, site.scope))
        response = await self._send(site, wanted, known)
        # Storage that the site redirects to does not get to ask for a login.
        if response.status != 401 or _is_elsewhere(site, response):
            return response
        await response.discard()
        refusal = LoginRequest(response.url, challenges(response.challenges), site.scope)
        fresh = await self._log_in(site, refusal, known)
        return response if fresh is None else await self._send(site, wanted, fresh)

    async def _send(
        self, site: Host, wanted: Question, authorization: str | None
    ) -> UpstreamResponse:
        headers = dict(wanted.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        url = f"{site.url}/{wanted.path}"
        status = "failed"
        try:
            response = await self._transport.send(site.request(wanted.method, url, headers))
            status = str(response.status)
            return response
        finally:
            self._counters.requests[site.upstream.name, wanted.method, status] += 1

    async def _log_in(self, site: Host, refusal: LoginRequest, refused: str | None) -> str | None:
        """Return another header than the refused one; those who wait share one login."""
        key = (site.url, site.scope)
        lock = self._logins.setdefault(key, asyncio.Lock())
        async with lock:
            known = self._cache.get(key)
            if known is not None and known != refused:
                return known
            authorization = await self._authorize(site, refusal)
            if authorization is None:
                return None
            self._cache.put(key, authorization)
            return authorization.header

    async def _authorize(self, site: Host, refusal: LoginRequest) -> Authorization | None:
        flow = authorize(refusal, site.credentials, self._clock)
        try:
            asked = next(flow)
            while True:
                asked = flow.send(await self._ask_token_server(site, asked))
        except StopIteration as end:
            found: Authorization | None = end.value
            return found

    async def _ask_token_server(self, site: Host, asked: TokenRequest) -> TokenAnswer:
        headers = {"Authorization": asked.authorization} if asked.authorization else {}
        host = origin(asked.url)[1]
        try:
            response = await self._transport.send(site.request("GET", asked.url, headers))
            body = await response.read(_MAX_TOKEN_ANSWER)
        except Failure as failure:
            raise Failure(
                f"its token server {host}: {failure.reason}", passing=failure.passing
            ) from None
        if response.status == 429:
            raise site.busy(response.headers)
        if response.status >= 500:
            raise Failure(f"its token server {host} answers {response.status}", passing=True)
        if asked.authorization and response.status in (401, 403):
            _log.warning("upstream %s refuses its credentials", site.upstream.name)
        return TokenAnswer(response.status, body)


def _takes_no_head(site: Host, response: UpstreamResponse) -> bool:
    """Tell whether GET may be answered where HEAD is not: S3 signs an address for one of them."""
    refused_elsewhere = response.status in (400, 401, 403) and _is_elsewhere(site, response)
    return response.status in (405, 501) or refused_elsewhere


def _check(site: Host, wanted: Question, response: UpstreamResponse) -> None:
    """Raise the refusal, or the failure, that a status means."""
    status = response.status
    if status == 200 or (status in (206, 416) and "Range" in wanted.headers):
        return
    if status == 404:
        raise site.lacks(wanted)
    if status == 429:
        raise site.busy(response.headers)
    if status in (401, 403) and not _is_elsewhere(site, response):
        raise site.denies(wanted)
    where = f"{origin(response.url)[1]} " if _is_elsewhere(site, response) else ""
    retry_after = response.headers.get("Retry-After")
    passing = status >= 500 and retry_after is None
    raise Failure(f"{where}answers {status}", passing=passing, retry_after=retry_after)


def _is_elsewhere(site: Host, response: UpstreamResponse) -> bool:
    return origin(response.url) != origin(site.url)
