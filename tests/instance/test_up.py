# SPDX-License-Identifier: Apache-2.0
"""``up``, ``status`` and ``down``: what they make, keep, change and remove."""

import json
import os
import signal
import stat
import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.instance.conftest import Desk
from tests.ports import free_port

KEYS = {"host", "port", "push_host", "push_port", "username", "password", "cert"}


def test_up_makes_a_registry_that_its_facts_describe(desk: Desk) -> None:
    """From nothing to two endpoints that answer."""
    report = desk.up()
    facts = report["facts"]
    assert set(facts) == KEYS
    assert report["changes"] == ["certificate", "credentials", "configuration", "started"]
    assert desk.ask(facts).status == 200
    assert desk.ask(facts, which="push_").status == 401
    assert desk.ask(facts, which="push_", login=True).status == 200


def test_a_second_up_changes_nothing(desk: Desk) -> None:
    """The files stay as they are, and so do the processes."""
    desk.up()
    files = {path: path.read_bytes() for path in desk.root.glob("*.*")}
    processes = desk.processes()
    again = desk.up()
    assert again["changed"] is False
    assert again["changes"] == []
    assert {path: path.read_bytes() for path in desk.root.glob("*.*")} == files
    assert desk.processes() == processes
    plain = desk.run("up", "--json")
    assert json.loads(plain.stdout) == again["facts"]


def test_the_summary_says_how_to_use_it_and_not_the_password(desk: Desk) -> None:
    """What a person sees can be copied; the password stays in its file."""
    facts = desk.up()["facts"]
    said = desk.run("up").stdout
    assert f"https://127.0.0.1:{facts['port']}" in said
    assert f"podman push --cert-dir certs IMAGE 127.0.0.1:{facts['push_port']}/" in said
    assert f"docker pull 127.0.0.1:{facts['port']}/" in said
    assert facts["password"] not in said
    assert (desk.root / "password").read_text() == facts["password"]
    assert facts["password"] not in desk.run("status").stdout


def test_the_certificate_is_good_for_every_name(desk: Desk) -> None:
    """The host, the alias, localhost and loopback addresses, and another host after a change."""
    from cryptography import x509

    def names() -> set[str]:
        leaf = x509.load_pem_x509_certificates((desk.root / "server.pem").read_bytes())[0]
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {str(name.value) for name in found}

    desk.up("--alias", "alias.example")
    assert names() == {"127.0.0.1", "::1", "localhost", "alias.example"}
    kept = (desk.root / "password").read_text()
    report = desk.up("--host", "registry.example")
    assert report["changes"] == ["certificate", "restarted"]
    assert "registry.example" in names()
    assert report["facts"]["push_host"] == "registry.example"
    assert (desk.root / "password").read_text() == kept


def test_one_port_serves_both_endpoints(desk: Desk) -> None:
    """Tools that know one port push and pull there; back to two ports it goes as well."""
    port = desk.ports[0]
    single = desk.up("--single-port", "--port", port)["facts"]
    assert single["port"] == single["push_port"] == port
    assert desk.ask(single, login=True).status == 200
    assert desk.up("--no-single-port", "--push-port", desk.ports[1])["changes"] == [
        "configuration",
        "restarted",
    ]


def test_what_a_user_wrote_into_the_configuration_stays(desk: Desk) -> None:
    """An edited file is used from the next ``up`` on, and options change only what they name."""
    desk.up()
    path = desk.root / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["auth"]["token_seconds"] = 77
    path.write_text(yaml.safe_dump(tree))
    assert desk.up()["changes"] == ["restarted"]
    port = free_port()
    assert desk.up("--port", port, "--push-port", desk.ports[1])["facts"]["port"] == port
    assert yaml.safe_load(path.read_text())["auth"]["token_seconds"] == 77


def test_users_that_were_added_stay(desk: Desk) -> None:
    """A lost password is made anew without touching the other users."""
    desk.up()
    htpasswd = desk.root / "htpasswd"
    htpasswd.write_text(htpasswd.read_text() + "other:$2b$05$x\n")
    (desk.root / "password").unlink()
    assert "credentials" in desk.up()["changes"]
    assert "other:$2b$05$x\n" in htpasswd.read_text()


def test_upstreams_come_from_standard_input(desk: Desk) -> None:
    """What is secret is on no command line."""
    upstreams = [{"name": "quay.io", "url": "https://quay.example", "username": "u"}]
    upstreams[0]["password"] = "upstream-secret"
    desk.up("--upstreams-file", "-", stdin=json.dumps(upstreams))
    assert yaml.safe_load((desk.root / "config.yaml").read_text())["upstreams"] == upstreams
    assert desk.up()["changed"] is False


def test_an_upstream_is_refused_that_is_another_one_by_another_name(desk: Desk) -> None:
    """Before anything is written, in one line."""
    upstreams = [{"name": name, "url": "https://x"} for name in ("index.docker.io", "Docker.io")]
    line = desk.refused("up", "--upstreams-file", "-", stdin=json.dumps(upstreams))
    assert "upstream docker.io is listed twice" in line
    assert not (desk.root / "config.yaml").exists()


def test_check_tells_and_changes_nothing(desk: Desk) -> None:
    """``--check`` foresees what ``up`` would do."""
    foreseen = desk.up("--check")
    assert foreseen["changes"] == ["certificate", "credentials", "configuration", "started"]
    assert foreseen["facts"] is None
    assert not desk.root.exists()
    desk.up()
    assert desk.up("--check")["changed"] is False
    assert desk.up("--check", "--no-anonymous-pull")["changes"] == ["configuration", "restarted"]


def test_status_and_down_can_be_repeated(desk: Desk) -> None:
    """Asking and ending can be repeated; ending keeps everything, purging nothing."""
    assert desk.run("status").returncode == 3
    assert desk.status()["facts"] is None
    facts = desk.up()["facts"]
    status = desk.status()
    assert status["running"] and status["answers"]
    assert status["pid"] in desk.processes()
    assert status["facts"] == facts
    assert json.loads(desk.run("down", "--json").stdout) == {"changed": True}
    assert desk.processes() == []
    assert desk.run("status").returncode == 3
    assert json.loads(desk.run("down", "--json").stdout) == {"changed": False}
    assert desk.up()["facts"] == facts
    desk.run("down", "--purge")
    assert not desk.root.exists()
    assert desk.processes() == []
    assert json.loads(desk.run("down", "--purge", "--json").stdout) == {"changed": False}


@pytest.mark.parametrize("name", ["password", "htpasswd", "server.key", "token.key", "config.yaml"])
def test_secrets_are_for_their_owner(desk: Desk, name: str) -> None:
    """No other user of the machine reads them."""
    desk.up()
    assert stat.S_IMODE((desk.root / name).stat().st_mode) == 0o600


def test_nobody_else_writes_whatever_the_umask_says(desk: Desk) -> None:
    """Who may write to the folder may put another configuration there."""
    before = os.umask(0)
    try:
        desk.up()
    finally:
        os.umask(before)
    for path in (desk.root, *desk.root.rglob("*")):
        inside = {desk.root / "data", desk.root / "ledger"} & set(path.parents)
        assert inside or not path.stat().st_mode & 0o022, path


def test_nobody_else_reads_images(desk: Desk) -> None:
    """The data is below a folder that its owner alone may enter."""
    desk.up()
    assert stat.S_IMODE((desk.root / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize(("days", "age"), [(20, 1), (3650, -300)], ids=["ends", "not yet"])
def test_a_certificate_that_is_of_no_use_is_made_anew(desk: Desk, days: int, age: int) -> None:
    """It is about to end, or was made while the clock was wrong. A new authority is in the facts;
    the registry is restarted with it."""
    before = desk.up()["facts"]
    write_certificates(desk.root, days, age)
    report = desk.up()
    assert report["changes"] == ["certificate", "restarted"]
    assert report["facts"]["cert"] != before["cert"]
    assert desk.ask(report["facts"]).status == 200
    assert desk.up()["changes"] == []


def test_a_hangup_does_not_end_the_registry(desk: Desk) -> None:
    """SIGHUP has it read its certificates, whichever of its processes gets it."""
    facts = desk.up()["facts"]
    for process in desk.processes():
        os.kill(int(process), signal.SIGHUP)
    time.sleep(1)
    assert desk.up()["changes"] == []
    assert desk.ask(facts).status == 200


def write_certificates(root: Path, days: int, age: int) -> None:
    """Put certificates in the place of those of a registry: good for so many days, so old."""
    from buildset_registry.instance import certificate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "_DAYS", days)
        patch.setattr(certificate, "_EARLY", timedelta(days=age))
        issued = certificate.issue(["127.0.0.1"])
    (root / "cert.pem").write_bytes(issued.authority)
    (root / "server.pem").write_bytes(issued.leaves[0].chain)
    (root / "server.key").write_bytes(issued.leaves[0].key)
