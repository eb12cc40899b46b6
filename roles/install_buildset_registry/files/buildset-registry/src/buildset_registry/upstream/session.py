# SPDX-License-Identifier: Apache-2.0
"""A session with the upstreams: logs in where one asks for that, tries again where that helps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from buildset_registry.upstream.counters import UpstreamCounters
from buildset_registry.upstream.errors import UpstreamError
from buildset_registry.upstream.hosts import Host, RepositoryRequest
from buildset_registry.upstream.tokens import (
    Authorization,
    AuthorizationCache,
    TokenAnswer,
    TokenRequest,
    UnauthorizedResponse,
    authorize,
    challenges,
)
from buildset_registry.upstream.urls import origin, server

if TYPE_CHECKING:
    from buildset_registry.upstream.transport import Transport, UpstreamResponse

_MAX_TOKEN_ANSWER = 1024 * 1024

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
        self._logins: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

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
        if request.method == "HEAD" and _takes_no_head(host, response):
            await response.discard()
            request = replace(request, method="GET")
            response = await self._answer(host, request)
        try:
            _check(host, request, response)
            return await read(response)
        except BaseException:
            response.close()
            raise

    async def _answer(self, host: Host, request: RepositoryRequest) -> UpstreamResponse:
        """Send a request, and once more with a login where the host asks for one."""
        known = self._cache.get((host.url, host.scope))
        response = await self._send(host, request, known)
        # Storage that the host redirects to does not get to ask for a login.
        if response.status != 401 or _is_elsewhere(host, response):
            return response
        await response.discard()
        unauthorized = UnauthorizedResponse(
            response.url, challenges(response.challenges), host.scope
        )
        fresh = await self._log_in(host, unauthorized, known)
        return response if fresh is None else await self._send(host, request, fresh)

    async def _send(
        self, host: Host, request: RepositoryRequest, authorization: str | None
    ) -> UpstreamResponse:
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        url = f"{host.url}/{request.path}"
        status = "failed"
        try:
            response = await self._transport.send(host.request(request.method, url, headers))
            status = str(response.status)
            return response
        finally:
            self._counters.requests[host.upstream.name, request.method, status] += 1

    async def _log_in(
        self, host: Host, unauthorized: UnauthorizedResponse, refused: str | None
    ) -> str | None:
        """Return another header than the refused one; those who wait share one login."""
        key = (host.url, host.scope)
        lock = self._logins.setdefault(key, asyncio.Lock())
        async with lock:
            known = self._cache.get(key)
            if known is not None and known != refused:
                return known
            authorization = await self._authorize(host, unauthorized)
            if authorization is None:
                return None
            self._cache.put(key, authorization)
            return authorization.header

    async def _authorize(
        self, host: Host, unauthorized: UnauthorizedResponse
    ) -> Authorization | None:
        flow = authorize(unauthorized, host.credentials, self._clock)
        try:
            token_request = next(flow)
            while True:
                token_request = flow.send(await self._ask_token_server(host, token_request))
        except StopIteration as end:
            found: Authorization | None = end.value
            return found

    async def _ask_token_server(self, host: Host, token_request: TokenRequest) -> TokenAnswer:
        headers = (
            {"Authorization": token_request.authorization} if token_request.authorization else {}
        )
        asked = server(token_request.url)
        try:
            response = await self._transport.send(host.request("GET", token_request.url, headers))
            body = await response.read(_MAX_TOKEN_ANSWER)
        except UpstreamError as error:
            raise UpstreamError(
                f"its token server {asked}: {error.reason}", transient=error.transient
            ) from None
        if response.status == 429:
            raise host.busy(response.headers)
        if response.status >= 500:
            raise UpstreamError(
                f"its token server {asked} answers {response.status}", transient=True
            )
        if token_request.authorization and response.status in (401, 403):
            _log.warning("upstream %s refuses its credentials", host.upstream.name)
        return TokenAnswer(response.status, body)


def _takes_no_head(host: Host, response: UpstreamResponse) -> bool:
    """Tell whether GET may be answered where HEAD is not: S3 signs an address for one of them."""
    refused_elsewhere = response.status in (400, 401, 403) and _is_elsewhere(host, response)
    return response.status in (405, 501) or refused_elsewhere


def _check(host: Host, request: RepositoryRequest, response: UpstreamResponse) -> None:
    """Raise the refusal, or the error, that a status means."""
    status = response.status
    if status == 200 or (status in (206, 416) and "Range" in request.headers):
        return
    if status == 404:
        raise host.lacks(request)
    if status == 429:
        raise host.busy(response.headers)
    if status in (401, 403) and not _is_elsewhere(host, response):
        raise host.denies(request)
    where = f"{server(response.url)} " if _is_elsewhere(host, response) else ""
    retry_after = response.headers.get("Retry-After")
    transient = status >= 500 and retry_after is None
    raise UpstreamError(f"{where}answers {status}", transient=transient, retry_after=retry_after)


def _is_elsewhere(host: Host, response: UpstreamResponse) -> bool:
    return origin(response.url) != origin(host.url)
