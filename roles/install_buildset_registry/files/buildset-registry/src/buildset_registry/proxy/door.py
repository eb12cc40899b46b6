# SPDX-License-Identifier: Apache-2.0
"""Who may use the proxy: clients of the allowed networks that know a user and its password."""

from __future__ import annotations

from buildset_registry.auth.access import Access, Identity, Policy
from buildset_registry.auth.authenticator import REALM, Authenticator
from buildset_registry.errors import RegistryError, Unauthorized
from buildset_registry.proxy.head import Refusal

_CHALLENGE = {"Proxy-Authenticate": f'Basic realm="{REALM}"'}


class Door:
    """Lets clients in, by the users, networks and remembered passwords of the other endpoints."""

    def __init__(self, policy: Policy, authenticator: Authenticator) -> None:
        self._policy = policy
        self._authenticator = authenticator

    async def admit(self, client: str, credentials: str) -> Identity:
        """Return the user whom the Proxy-Authorization header names; ``Refusal`` says why not."""
        try:
            self._policy.check_network(client)
            if not credentials.lower().startswith("basic "):
                wanted = "this proxy wants the registry's user name and password"
                raise Refusal(407, wanted, _CHALLENGE)
            # As for a push: no user that is known elsewhere only passes for nobody in particular.
            identity = await self._authenticator.authenticate(credentials, Access.PUSH, client)
        except Unauthorized as error:
            raise Refusal(407, f"{error.message}, as this proxy has it", _CHALLENGE) from None
        except RegistryError as error:
            raise Refusal(error.status, error.message, error.headers) from None
        if identity.name is None:
            raise Refusal(407, "the user name is empty", _CHALLENGE)
        return identity
