# SPDX-License-Identifier: Apache-2.0
"""What pip is told of package indexes, told to uv."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import indexes

STORE = "/etc/ssl/certs/all.pem"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with a store of certificates."""
    monkeypatch.setattr(indexes, "system_store", lambda: STORE)


def test_settings_are_read_as_pip_weighs_them() -> None:
    """Variables count more than a section for a command, and that more than the one for all."""
    listing = """\
:env:.extra-index-url='https://c.example/simple'
:env:.default-timeout='180'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.index-url='https://global.example/simple'
install.index-url="https://o'install.example/simple"
list.format='columns'
"""
    assert indexes.read(listing) == {
        "extra-index-url": "https://c.example/simple",
        "timeout": "180",
        "index-url": "https://o'install.example/simple",
    }


def test_a_mirror_is_told_to_uv() -> None:
    """With others beside it, of which uv takes the best version as pip does."""
    told = indexes.translate(
        {
            "index-url": "https://mirror.example/simple",
            "extra-index-url": "\nhttps://a.example/simple\nhttps://b.example/simple",
            "trusted-host": "a.example b.example:8443",
        },
        {},
    )
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert told["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert told["UV_INSECURE_HOST"] == "a.example b.example:8443"


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_what_uv_is_told_by_its_own_variables_counts_more(variable: str) -> None:
    """Also by the variable that uv has given up."""
    told = indexes.translate({"index-url": "https://pip.example"}, {variable: "https://uv.example"})
    assert "UV_DEFAULT_INDEX" not in told


def test_folders_of_wheels_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    """Pip only warns of them, uv would fail."""
    told = indexes.translate({"find-links": f"{tmp_path} /no/such https://a.example/x"}, {})
    assert told["UV_FIND_LINKS"] == f"{tmp_path},https://a.example/x"


def test_a_proxy_is_told_where_the_environment_names_none() -> None:
    """What the environment names is what both programs use."""
    settings = {"proxy": "http://proxy.example:3128"}
    assert indexes.translate(settings, {})["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert "HTTPS_PROXY" not in indexes.translate(settings, {"https_proxy": "http://b.example"})


def test_the_store_of_the_system_is_trusted() -> None:
    """By uv, and by a pip that would ask its own list."""
    assert indexes.translate({}, {}) == {"UV_SYSTEM_CERTS": "true", "REQUESTS_CA_BUNDLE": STORE}


def test_a_system_without_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both programs use the lists that they bring."""
    monkeypatch.setattr(indexes, "system_store", lambda: "")
    assert indexes.translate({}, {}) == {}


@pytest.mark.parametrize("source", ["cert", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_pip_is_told_of_are_told_to_uv(tmp_path: Path, source: str) -> None:
    """By its setting, or by the variables that pip knows of another program."""
    bundle = tmp_path / "bundle.pem"
    named = {source: str(bundle)}
    told = indexes.translate(named, {}) if source == "cert" else indexes.translate({}, named)
    assert told["SSL_CERT_FILE"] == str(bundle)
    assert "REQUESTS_CA_BUNDLE" not in told
    assert indexes.translate({"cert": str(tmp_path)}, {})["SSL_CERT_DIR"] == str(tmp_path)


def test_settings_become_variables_for_a_pip_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ansible-test's, which has another home folder."""
    monkeypatch.setattr(indexes, "settings", lambda: {"extra-index-url": "\na\nb", "timeout": "5"})
    told = indexes.pip_variables()
    assert told["PIP_EXTRA_INDEX_URL"] == "a b"
    assert told["PIP_TIMEOUT"] == "5"
