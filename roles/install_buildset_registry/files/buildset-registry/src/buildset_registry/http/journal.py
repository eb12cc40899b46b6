# SPDX-License-Identifier: Apache-2.0
"""What is noted of each request when it has ended: a line of the log, and numbers."""

from __future__ import annotations

from buildset_registry.http.accesslog import AccessLog, Asked
from buildset_registry.http.traffic import Traffic

#: nginx's number for a client that closed the connection; only ever logged.
CLIENT_LEFT = 499


class Journal:
    """Takes note of the requests of one endpoint."""

    def __init__(self, access_log: AccessLog, traffic: Traffic) -> None:
        self._access_log = access_log
        self.traffic = traffic

    def add(self, request: Asked, status: int, size: int, seconds: float) -> None:
        """Note a request that was answered with ``size`` bytes in so many seconds."""
        self._access_log.add(request, status, size, seconds)
        route = request.route
        key = (route, request.method, status) if route else ("none", "other", status)
        self.traffic.add(key, size, request.received, seconds)
