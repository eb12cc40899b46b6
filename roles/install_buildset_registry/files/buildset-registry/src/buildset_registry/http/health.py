# SPDX-License-Identifier: Apache-2.0
"""Health: whether the registry lives (``/healthz``) and whether it can serve (``/readyz``)."""

from __future__ import annotations

from buildset_registry.http.context import Context
from buildset_registry.http.request import Request
from buildset_registry.http.response import Response, json_response
from buildset_registry.store.base import StorageSpace

_NO_STORE = {"Cache-Control": "no-store"}


async def live(request: Request, context: Context) -> Response:
    """Tell that the process answers."""
    return liveness()


async def ready(request: Request, context: Context) -> Response:
    """Tell whether the storage can be written, or what is wrong with it."""
    return await readiness(context.storage)


def liveness() -> Response:
    return json_response({"status": "ok"}, headers=_NO_STORE)


async def readiness(storage: StorageSpace) -> Response:
    """Return 200, or 503 with the reason; it names no path, since everybody may ask."""
    problem = await storage.problem()
    status = {"status": problem or "ok"}
    return json_response(status, 503 if problem else 200, headers=_NO_STORE)
