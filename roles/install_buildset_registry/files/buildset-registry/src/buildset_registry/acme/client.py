# SPDX-License-Identifier: Apache-2.0
"""An order at an ACME server, in two steps between which the challenges are published.

It waits for the server, so it runs in a thread. The library is certbot's: it signs, keeps nonces
and knows the objects of RFC 8555; nothing else here imports it.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

import requests
from acme import challenges, errors, messages
from acme.client import ClientNetwork, ClientV2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from buildset_registry import __version__
from buildset_registry.acme.authority import Authority, OrderFailed
from buildset_registry.acme.certificate import key_pem, new_key
from buildset_registry.protocol.retry_after import pause_of

#: Seconds that an answer may take, and that the server may take to validate and to issue.
_ANSWER_SECONDS = 20.0
_VALIDATION_SECONDS = 90
_LONGEST = 300
_NO_ACCOUNT = "accountDoesNotExist"


@dataclass(slots=True)
class PendingOrder:
    """An order whose challenges are to be published before it goes on."""

    account: bytes
    """The account as a document, which may be new."""

    challenges: Mapping[str, str]
    """What is to be answered to whoever asks for a token (RFC 8555, section 8.3)."""

    client: ClientV2
    order: messages.OrderResource
    key: bytes


class AcmeClient:
    """Orders at one server."""

    def __init__(self, authority: Authority, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._authority = authority
        self._seconds = answer_seconds
        self._retry_after: float | None = None

    def begin(self, account: bytes | None, names: tuple[str, ...]) -> PendingOrder:
        """Order; the account that was used before is used again, unless the server forgot it."""
        with self._failures():
            try:
                return self._begin(account, names)
            except messages.Error as error:
                if account is None or error.code != _NO_ACCOUNT:
                    raise
                return self._begin(None, names)

    def finish(self, pending: PendingOrder) -> tuple[str, str]:
        """Have the challenges validated; return the certificate's chain and its key."""
        client, account_key = pending.client, pending.client.net.key
        deadline = datetime.now() + timedelta(seconds=_VALIDATION_SECONDS)
        with self._failures():
            for one in _http_challenges(pending.order):
                client.answer_challenge(one, one.response(account_key))
            order = client.poll_and_finalize(pending.order, deadline)
            return order.fullchain_pem, pending.key.decode()

    def _begin(self, account: bytes | None, names: tuple[str, ...]) -> PendingOrder:
        client, document = self._account(account)
        key = new_key()
        request = _request(names).sign(key, hashes.SHA256())
        order = client.new_order(
            request.public_bytes(serialization.Encoding.PEM), self._authority.profile
        )
        tokens = {
            one.chall.encode("token"): one.validation(client.net.key)
            for one in _http_challenges(order)
        }
        return PendingOrder(document, tokens, client, order, key_pem(key))

    def _account(self, document: bytes | None) -> tuple[ClientV2, bytes]:
        """Return a client with the account of a document, or with a new one."""
        known = _known_account(document)
        if known is None:
            key: Any = JWKEC(key=new_key())
            client = self._client(ClientNetwork(key, alg=ES256))
            account = self._register(client)
        else:
            key, uri = known
            body = messages.Registration.from_json({})
            account = messages.RegistrationResource(body=body, uri=uri)
            client = self._client(ClientNetwork(key, account, alg=ES256))
        made = {"directory": self._authority.directory, "uri": account.uri, "key": key.to_json()}
        return client, json.dumps(made, indent=1).encode()

    def _client(self, net: ClientNetwork) -> ClientV2:
        # By itself it would trust a list of its own, not the system's.
        store = self._authority.ca or ssl.get_default_verify_paths().cafile
        trusted: Any = str(store) if store else True
        net.verify_ssl = trusted
        net.user_agent = f"buildset-registry/{__version__}"
        wait: Any = self._seconds
        net._default_timeout = wait
        net.session.hooks["response"].append(self._note_pause)
        directory = messages.Directory.from_json(net.get(self._authority.directory).json())
        return ClientV2(directory, net)

    def _register(self, client: ClientV2) -> messages.RegistrationResource:
        authority, binding = self._authority, None
        key = client.net.key
        if key and authority.key_id and authority.hmac_key:
            public = key.public_key()
            binding = messages.ExternalAccountBinding.from_data(
                public, authority.key_id, authority.hmac_key, client.directory
            )
        elif client.directory.meta.external_account_required:
            raise OrderFailed(
                f"{authority.host} wants an account that is bound to one with it; "
                "set acme.external_account"
            )
        return client.new_account(
            messages.NewRegistration.from_data(
                email=authority.email,
                terms_of_service_agreed=True,
                external_account_binding=binding,
            )
        )

    def _note_pause(self, response: requests.Response, **_unused: Any) -> None:
        if response.status_code >= 400:
            self._retry_after = pause_of(response.headers.get("Retry-After"), time.time())

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Tell of everything that goes wrong in one line."""
        self._retry_after = None
        try:
            yield
        except _EXPECTED as error:
            reason = " ".join(_reason(error, self._authority.host, self._seconds).split())
            raise OrderFailed(reason[:_LONGEST], self._retry_after) from None


_EXPECTED = (
    requests.RequestException,
    errors.Error,
    JoseError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def _known_account(document: bytes | None) -> tuple[Any, str] | None:
    """Return the key of an account and its URL; None for a document that is damaged or missing."""
    try:
        tree = json.loads(document or b"")
        return JWK.from_json(tree["key"]), str(tree["uri"])
    except (ValueError, TypeError, LookupError, JoseError):
        return None


def _http_challenges(order: messages.OrderResource) -> Iterator[Any]:
    """Yield the challenge HTTP-01 of each name that is not proved yet."""
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        for one in authorization.body.challenges:
            if isinstance(one.chall, challenges.HTTP01):
                yield one
                break
        else:
            name = authorization.body.identifier.value
            raise errors.Error(f"it offers no challenge HTTP-01 for {name}")


def _request(names: tuple[str, ...]) -> x509.CertificateSigningRequestBuilder:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.add_extension(x509.SubjectAlternativeName(found), critical=True)


def _reason(error: Exception, host: str, seconds: float) -> str:
    if isinstance(error, errors.ValidationError):
        return f"{host} cannot validate {_invalid(error)}"
    if isinstance(error, errors.IssuanceError):
        return f"{host} refuses: {_detail(error.error)}"
    if isinstance(error, messages.Error):
        return f"{host} refuses: {_detail(error)}"
    if isinstance(error, errors.TimeoutError):
        return f"{host} did not validate and issue within {_VALIDATION_SECONDS} s"
    if isinstance(error, requests.RequestException):
        return _unreached(error, host, seconds)
    if isinstance(error, errors.ClientError) and error.args:
        status = getattr(error.args[0], "status_code", None)
        if status:
            return f"{host} answers with the status {status}, and nothing that ACME knows"
    words = str(error) if error.__class__ is errors.Error else type(error).__name__
    return f"{host} does not answer as an ACME server ({words}); is acme.directory its URL?"


def _unreached(error: requests.RequestException, host: str, seconds: float) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} shows a certificate that cannot be verified; set acme.ca to its authority's"
    if isinstance(error, requests.Timeout):
        return f"{host} does not answer within {seconds:g} s"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return f"{host} does not answer in JSON; is acme.directory its URL?"
    if "NameResolution" in str(error):
        return f"{host} cannot be resolved"
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
    return f"cannot connect to {host} ({found[1] if found else type(error).__name__})"


def _invalid(error: errors.ValidationError) -> str:
    told = []
    for authorization in error.failed_authzrs:
        name = authorization.body.identifier.value
        details = [_detail(one.error) for one in authorization.body.challenges if one.error]
        told.append(f"{name} by http://{name}/.well-known/acme-challenge/: {'; '.join(details)}")
    return ", ".join(told)


def _detail(error: messages.Error) -> str:
    """Return what a server says, first of the names it is about, and the kind of error."""
    parts = [error, *(error.subproblems or ())]
    words = "; ".join(part.detail or part.description or "it does not say why" for part in parts)
    return f"{words} ({error.code or error.typ})"
