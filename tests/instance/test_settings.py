# SPDX-License-Identifier: Apache-2.0
"""Whole sections of the configuration, users and a key: ``up --settings-file``."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildset_registry.errors import ConfigError
from buildset_registry.instance.lifecycle import down
from buildset_registry.instance.options import Options, configure
from buildset_registry.instance.paths import InstancePaths
from buildset_registry.instance.process import ProcessSupervisor
from buildset_registry.instance.sections import Sections
from trustme import CA

from tests.instance.conftest import Desk
from tests.ports import free_port

SECRET = "not-to-be-told"
READER = {"name": "reader", "password": "correct horse"}
WRITER = {"name": "writer", "password": "battery staple"}


def up(desk: Desk, **settings: Any) -> dict[str, Any]:
    """Start the registry with settings that it reads from standard input."""
    return desk.up(
        "--single-port", "--port", desk.ports[0], "--settings-file", "-", stdin=json.dumps(settings)
    )


def test_sections_are_as_they_are_given(desk: Desk) -> None:
    """Each replaces the one in the file; null removes one; a second time changes nothing."""
    metrics = {"port": free_port(), "address": "127.0.0.1"}
    rules = [{"users": ["writer"], "repositories": ["**"], "actions": ["push"]}]
    given = {
        "auth": {"anonymous_pull": False, "rules": rules},
        "metrics": metrics,
        "users": [READER, WRITER],
        "token_key": b64encode(b"k" * 32).decode(),
    }
    first = up(desk, **given)
    assert up(desk, **given)["changes"] == []
    file = desk.root / "config.yaml"
    assert yaml.safe_load(file.read_text())["metrics"] == metrics
    assert (desk.root / "token.key").read_bytes() == b"k" * 32
    facts = first["facts"]
    assert desk.ask(facts).status == 401
    uploads = "/v2/app/blobs/uploads/"
    for user, status in ((READER, 403), (WRITER, 202)):
        login = {**facts, "username": user["name"], "password": user["password"]}
        assert desk.ask(login, login=True).status == 200
        assert desk.ask(login, uploads, "POST", login=True).status == status
    changed = up(desk, **{**given, "metrics": None, "users": [WRITER]})
    assert changed["changes"] == ["credentials", "configuration", "restarted"]
    assert "metrics" not in yaml.safe_load(file.read_text())
    lines = (desk.root / "htpasswd").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["buildset", "writer"]
    # The facts of before go on working.
    assert changed["facts"] == facts
    assert stat.S_IMODE((desk.root / "htpasswd").stat().st_mode) == 0o600


def test_workers_keep_no_ledger_in_a_folder() -> None:
    """What ``up`` writes by itself is nothing that they refuse; what a user writes stays."""
    storage = {"s3": {"bucket": "images"}}
    one = configure({}, Options(sections=Sections({"storage": storage})))
    assert one["ledger"] == {"folder": "ledger"}
    several = Options(sections=Sections({"storage": storage, "workers": 2}))
    assert configure(one, several)["ledger"] == {}
    own = {"folder": "elsewhere"}
    assert configure({**one, "ledger": own}, several)["ledger"] == own


def test_a_section_may_be_none_or_the_default_again() -> None:
    """``false`` and ``null``: no ledger is kept, also after the next ``up``, or one as before."""
    none = configure({}, Options(sections=Sections({"ledger": False})))
    assert none["ledger"] is None
    assert configure(none, Options())["ledger"] is None
    again = configure(none, Options(sections=Sections({"ledger": None})))
    assert again["ledger"] == {"folder": "ledger"}


def test_a_replaced_certificate_needs_no_restart(desk: Desk, tmp_path: Path) -> None:
    """It is shown by itself: a registry is not drained for each renewal."""
    files = {"certificate": str(tmp_path / "site.pem"), "key": str(tmp_path / "site.key")}
    for changes in (["credentials", "configuration", "started"], []):
        issued = CA().issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(files["certificate"])
        issued.private_key_pem.write_to_path(files["key"])
        assert up(desk, tls=files)["changes"] == changes


def test_a_long_transfer_is_not_cut_short(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop waits as long as ``limits.shutdown_seconds`` lets running requests take."""
    up(desk, limits={"shutdown_seconds": 600})
    told: list[float] = []
    stop = ProcessSupervisor.stop

    def noted(self: ProcessSupervisor, seconds: float) -> bool:
        told.append(seconds)
        return stop(self, seconds)

    monkeypatch.setattr(ProcessSupervisor, "stop", noted)
    assert down(InstancePaths(desk.root), purge=False).changed
    assert told == [630]


def test_a_changed_password_needs_no_restart(desk: Desk) -> None:
    """The users of before that stay keep their hashes."""
    up(desk, users=[READER, WRITER])
    before = (desk.root / "htpasswd").read_text().splitlines()
    report = up(desk, users=[{**READER, "password": "another one"}, WRITER])
    assert report["changes"] == ["credentials"]
    after = (desk.root / "htpasswd").read_text().splitlines()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    # Without the option they stay.
    assert desk.up("--single-port", "--port", desk.ports[0])["changes"] == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"users": [{"name": "a:b", "password": SECRET}]}, "without colons"),
        ({"users": [{"name": "a", "password": SECRET * 9}]}, "not text of 1 to 72 bytes"),
        ({"users": [{"name": "a", "password": f"{SECRET}\0"}]}, "not text of 1 to 72 bytes"),
        ({"users": [{"name": "a", "password": f"{SECRET}\ud800"}]}, "not text of 1 to 72 bytes"),
        ({"users": [{"name": "buildset", "password": SECRET}]}, "the user that up makes"),
        ({"users": [{"name": "a", "password": SECRET}] * 2}, "listed twice"),
        ({"users": {"a": SECRET}}, "must be a list"),
        ({"users": [{"name": "a"}]}, "must have name and password"),
        ({"token_key": SECRET}, "not 32 bytes or more in base64"),
        ([SECRET], "must be a mapping of sections"),
    ],
)
def test_a_mistake_is_told_without_a_secret(settings: Any, words: str) -> None:
    """It names the place."""
    with pytest.raises(ConfigError) as caught:
        Sections.read(json.dumps(settings), "settings.yaml")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({"auth": SECRET}, "auth"),
        ({"endpoints": [SECRET]}, "endpoints"),
        ({"endpoints": {"pull": SECRET}}, "endpoints.pull"),
        ({"lock": SECRET}, "lock"),
        ({"log": [SECRET]}, "log"),
        ({"proxy": SECRET}, "proxy"),
        ({"pull_through": SECRET}, "pull_through"),
        ({"tls": SECRET}, "tls"),
    ],
)
def test_a_section_that_is_completed_is_one(section: dict[str, Any], where: str) -> None:
    """What up adds its own to is looked at before, in a file that was written by hand as well."""
    given = Sections.read(json.dumps(section), "settings.yaml")
    for tree, options in (({}, Options(sections=given)), (section, Options())):
        with pytest.raises(ConfigError) as caught:
            configure(tree, options)
        assert str(caught.value) == f"{where} of the configuration must be a mapping; correct it"
    assert configure({"log": None}, Options())["log"] == {"file": "log/registry.log"}


def test_a_wrong_section_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    """It is refused before anything is made."""
    told = desk.refused("up", "--settings-file", "-", stdin=json.dumps({"storrage": "data"}))
    assert "unknown key storrage" in told
    assert "give another file with --settings-file" in desk.refused(
        "up", "--settings-file", tmp_path / "none"
    )
    assert not desk.root.exists()
