# SPDX-License-Identifier: Apache-2.0
"""Which certificates are trusted where."""

import ssl
from pathlib import Path

import pytest
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.upstream.transport import TrustStore


def test_a_context_is_made_once(ca: Path) -> None:
    """Reading the system's certificates takes time."""
    trust = TrustStore()
    assert trust.context(ca, alone=True) is trust.context(ca, alone=True)
    assert trust.context(None, alone=True) is trust.context(None, alone=False)


def test_a_ca_stands_alone_at_its_own_server_and_beside_the_systems_elsewhere(ca: Path) -> None:
    """Storage that an upstream redirects to may have a certificate of the public."""
    trust = TrustStore()
    assert len(trust.context(ca, alone=True).get_ca_certs()) == 1
    system = ssl.create_default_context().cert_store_stats()["x509"]
    beside = trust.context(ca, alone=False).cert_store_stats()["x509"]
    assert beside == system + 1


def test_every_context_verifies_names_and_certificates(ca: Path) -> None:
    """There is no switch for less."""
    for one in (None, ca):
        context = TrustStore().context(one, alone=True)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    """The file is named, and what to do."""
    (tmp_path / "ca.pem").write_text("hello")
    for alone in (True, False):
        with pytest.raises(
            UpstreamError, match=r"its ca .*ca\.pem holds no certificate; name a PEM"
        ):
            TrustStore().context(tmp_path / "ca.pem", alone=alone)


def test_a_ca_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The file is named, and why."""
    for alone in (True, False):
        with pytest.raises(UpstreamError, match=r"its ca .*none cannot be read \(No such file"):
            TrustStore().context(tmp_path / "none", alone=alone)
