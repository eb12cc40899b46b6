# SPDX-License-Identifier: Apache-2.0
"""The ASGI application of an endpoint: match, authorize, handle, send; all errors end here."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from buildset_registry.auth.access import Access, Identity, Role, Verdict
from buildset_registry.errors import (
    Denied,
    RegistryError,
    RequestTimeout,
    TokenInvalid,
    Unauthorized,
    Unsupported,
    storage_error,
)
from buildset_registry.http import image_tokens, routes
from buildset_registry.http.accesslog import CLIENT_LEFT, AccessRecord, AnswerNotes
from buildset_registry.http.asgi import ClientLeft, Receive, Scope, Send
from buildset_registry.http.context import Context
from buildset_registry.http.events import Events
from buildset_registry.http.pages import BASIC, PAGES
from buildset_registry.http.request import BodyTimeout, Request
from buildset_registry.http.response import Response, begun, error_response, send_response

_log = logging.getLogger("buildset_registry.http")

#: Statuses of clients that have gone, or send nothing.
_NOT_AWAITED = (CLIENT_LEFT, 408)
#: Seconds for which a client that was answered early may go on sending.
_LINGER_SECONDS = 10.0
_ACTIONS = {Access.PULL: "pull", Access.PUSH: "pull,push", Access.DELETE: "delete"}


class App:
    """The application of one endpoint.

    Its chain of calls is short on purpose: from here to the store's file of a blob there are eight.
    """

    def __init__(
        self,
        context: Context,
        record: AccessRecord,
        events: Events | None = None,
        notes: Sequence[AnswerNotes] = (),
    ) -> None:
        self._context = context
        self._record = record
        self._events = events
        self._notes = notes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        context = self._context
        request = Request(scope, receive, context.limits.body_seconds, context.bodies)
        status, size = CLIENT_LEFT, 0
        self._record.counters.running += 1
        context.crowd.begin(request.client, request.network)
        try:
            response = await self._respond(request)
            status = response.status
            head = request.method == "HEAD"
            size = await send_response(response, request.receive, send, head=head)
            for notes in self._notes:
                notes.add(request, response, size)
            if self._events is not None:
                await self._events.add(request, response)
        except ClientLeft:
            status = CLIENT_LEFT
        except (RegistryError, OSError, EOFError) as error:
            # The answer has begun: ending short of its length tells the client that it is broken.
            _log.error("%s %s broke off: %s", request.method, request.url, error)
        finally:
            if request.left is not None:
                request.left.cancel()
            self._record.counters.running -= 1
            context.crowd.end(request.client, request.network)
            self._record.add(request, status, size, time.perf_counter() - began)
        if request.unread and status not in _NOT_AWAITED:
            await _linger(request)

    async def _respond(self, request: Request) -> Response:
        context = self._context
        try:
            context.policy.check_network(request.client)
            route, request.path = routes.match(request.method, request.url)
            request.route = route.id
            if route.id not in routes.HEALTH:
                context.crowd.check(request.client, request.network)
            if route.access is not None:
                await self._authorize(request, route.access)
            response = await begun(await route.handler(request, context))
        except ClientLeft:
            raise
        except Exception as error:
            response = self._refuse(request, error)
        finally:
            if request.share is not None:
                request.share.close()
        if "Location" in response.headers or "Link" in response.headers:
            return self._with_public_urls(response, request)
        return response

    def _refuse(self, request: Request, error: Exception) -> Response:
        """Return the answer to what went wrong, and log what is not the client's fault."""
        if isinstance(error, Unauthorized) and "WWW-Authenticate" not in error.headers:
            error.headers["WWW-Authenticate"] = self._challenge(request)
        if isinstance(error, RegistryError):
            if error.status >= 500:
                _log.error("%s %s: %s", request.method, request.url, error.message)
            return error_response(error)
        if isinstance(error, EOFError):
            error = OSError(errno.EIO, f"a file is too short: {error}")
        if isinstance(error, OSError):
            _log.error("%s %s: %s", request.method, request.url, error)
            return error_response(storage_error(error))
        _log.error("%s %s failed", request.method, request.url, exc_info=error)
        return error_response(RegistryError("internal error; the registry's log says more"))

    def _with_public_urls(self, response: Response, request: Request) -> Response:
        """Make the URLs of an answer those that clients use; handlers give the paths."""
        headers, public = dict(response.headers), request.public
        base = (public.origin if self._context.absolute_urls else "") + public.prefix
        if headers.get("Location", "").startswith("/"):  # else it is another server's
            headers["Location"] = base + headers["Location"]
        if "Link" in headers:
            headers["Link"] = headers["Link"].replace("<", f"<{base}", 1)
        return replace(response, headers=headers)

    async def _authorize(self, request: Request, access: Access) -> None:
        context = self._context
        if access is Access.PUSH or access is Access.DELETE:
            self._check_writable()
        header = request.headers.get("authorization")
        if header is not None:
            request.identity = await self._identify(request, header, access)
        repository = request.name if "name" in request.path else None
        verdict = context.policy.decide(request.identity, access, repository)
        if verdict is Verdict.ALLOW or await image_tokens.allows(request, context):
            return
        message = context.policy.lacks(request.identity, access, repository)
        if verdict is Verdict.DENY:
            raise Denied(message)
        headers = {"WWW-Authenticate": self._challenge(request, access)}
        raise Unauthorized(message, headers=headers)

    async def _identify(self, request: Request, header: str, access: Access) -> Identity:
        """Return who asks; what is refused says how to log in for what was asked."""
        try:
            return await self._context.authenticator.authenticate(header, access, request.client)
        except Unauthorized as error:
            reason = "invalid_token" if isinstance(error, TokenInvalid) else None
            error.headers["WWW-Authenticate"] = self._challenge(request, access, reason)
            raise

    def _check_writable(self) -> None:
        """Raise ``Unsupported`` where this endpoint, or the registry for now, is read-only."""
        if self._context.policy.endpoint is Role.PULL:
            raise Unsupported(f"this endpoint is read-only; {self._context.elsewhere}")
        if self._context.limits.read_only:
            raise Unsupported(
                "this registry is read-only for now (read_only in its configuration); "
                "pushing and deleting are possible later"
            )

    def _challenge(
        self, request: Request, access: Access | None = None, error: str | None = None
    ) -> str:
        """Return the challenge, with the scope that a token needs for what was asked."""
        if request.route in PAGES:
            return BASIC  # a browser knows no tokens
        scope = None
        if access is Access.CATALOG:
            scope = "registry:catalog:*"
        elif access in _ACTIONS:
            # The stored name: what ``?ns=`` says is not in the one that the client wrote.
            scope = f"repository:{request.name}:{_ACTIONS[access]}"
        if request.identity.scopes is not None:
            error = "insufficient_scope"
        base = request.public.origin + request.public.prefix
        return self._context.authenticator.challenge(base, scope, error)


async def _linger(request: Request) -> None:
    """Take what is still sent: to close at once would have a client that sends miss the answer.

    RFC 9112, section 9.6: closing while data arrives resets the connection.
    """
    with contextlib.suppress(RequestTimeout), BodyTimeout(_LINGER_SECONDS):
        await request.discard()
