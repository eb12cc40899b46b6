# SPDX-License-Identifier: Apache-2.0
"""A node that the roles of zuul-jobs configure as well: before ours, after it, and again.

The stand-in writes what ``use-buildset-registry`` writes: the alias into ``/etc/hosts`` unless its
own line is there, mirrors by the alias, and credentials for it; each file as a whole.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.use.places import ADDRESSES, ALIAS, FACTS, LOGIN, PULL, Place, make_setup, toml

LINE = f"{FACTS['host']}\t{ALIAS}\n"
PULL_BY_ALIAS, PUSH_BY_ALIAS = f"{ALIAS}:5000", f"{ALIAS}:5001"
DAEMON, LOGINS = "/etc/docker/daemon.json", "/root/.docker/config.json"
REGISTRIES = "/etc/containers/registries.conf"
CLIENTS = ("containers", "docker", "containerd", "buildkit", "buildx", "k3s")


def read(place: Place, name: str) -> str:
    """Read a file; nothing where there is none."""
    return place.read(name) if (place.root / name[1:]).exists() else ""


def nice(value: dict[str, Any]) -> str:
    """Write JSON as Ansible's filter to_nice_json does."""
    return json.dumps(value, indent=4, sort_keys=True)


def zuul_jobs(place: Place) -> bool:
    """Configure the node as zuul-jobs' role does; tell whether that has changed it."""
    before = place.tree()
    hosts = read(place, "/etc/hosts")
    if LINE not in hosts.splitlines(keepends=True):
        place.write("/etc/hosts", hosts + LINE)
    daemon = json.loads(read(place, DAEMON) or "{}")
    daemon["registry-mirrors"] = [f"https://{PULL_BY_ALIAS}/"]
    place.write(DAEMON, nice(daemon))
    logins = json.loads(read(place, LOGINS) or '{"auths": {}}')
    logins["auths"][PULL_BY_ALIAS] = {"auth": LOGIN}
    place.write(LOGINS, nice(logins), 0o600)
    zuul_jobs_registries(place)
    return place.tree() != before


def zuul_jobs_registries(place: Place) -> None:
    """Give podman mirrors by the alias, and each registry itself as the last of them."""
    text = read(place, REGISTRIES)
    for name, path in {"docker.io": "", "quay.io": "/quay.io"}.items():
        if f'prefix = "{name}"' not in text:
            text += f'[[registry]]\nprefix = "{name}"\nlocation = "{name}"\n'
            text += f'[[registry.mirror]]\nlocation = "{PULL_BY_ALIAS}{path}"\n'
            text += f'[[registry.mirror]]\nlocation = "{name}"\n'
    place.write(REGISTRIES, text)


@pytest.fixture
def node(place: Place) -> Place:
    """A node that has been used before."""
    place.write("/etc/hosts", "127.0.0.1 localhost\n")
    place.write("/root/.docker/config.json", '{"auths": {"quay.io": {"auth": "b3RoZXI6"}}}', 0o600)
    return place


def test_the_alias_stands_for_an_ipv4_address(node: Place) -> None:
    """zuul-jobs' roles push to it wherever the host is an address."""
    node.use("docker")
    assert node.read("/etc/hosts") == f"127.0.0.1 localhost\n{FACTS['host']} {ALIAS}\n"


def test_a_host_with_a_name_has_no_alias(node: Place) -> None:
    """zuul-jobs' roles push to the name then."""
    node.use("docker", host="registry.example.com", push_host="registry.example.com")
    assert node.read("/etc/hosts") == "127.0.0.1 localhost\n"
    assert ALIAS not in node.read(LOGINS)


def test_another_name_of_a_line_stays(node: Place) -> None:
    """Only the alias is taken from an address that the registry has no more."""
    node.write("/etc/hosts", f"192.0.2.9 office {ALIAS} # since May\n192.0.2.8 {ALIAS}\n")
    node.use("docker")
    assert node.read("/etc/hosts") == f"192.0.2.9 office\n{FACTS['host']} {ALIAS}\n"
    node.restore()
    assert node.read("/etc/hosts") == f"192.0.2.9 office {ALIAS} # since May\n192.0.2.8 {ALIAS}\n"


def test_the_alias_is_trusted_by_every_client(node: Place) -> None:
    """By the folder or table of each, at both ports."""
    node.use(*CLIENTS)
    for folder in ("/etc/docker/certs.d", "/etc/containers/certs.d"):
        for address in (PULL_BY_ALIAS, PUSH_BY_ALIAS):
            assert node.read(f"{folder}/{address}/buildset-registry.crt") == FACTS["cert"]
    assert "ca" in toml(node.read("/etc/buildkit/buildkitd.toml"))["registry"][PUSH_BY_ALIAS]
    hosts = toml(node.read(f"/etc/containerd/certs.d/{PUSH_BY_ALIAS}/hosts.toml"))["host"]
    assert "push" in hosts[f"https://{PUSH_BY_ALIAS}"]["capabilities"]
    assert "push" not in node.read(f"/etc/containerd/certs.d/{PULL_BY_ALIAS}/hosts.toml")


def test_an_ipv6_literal_has_a_login_as_well() -> None:
    """crane and oras take one; docker and skopeo take the alias alone."""
    host = "2001:db8::1"
    registry = make_setup(host=host, push_host=host).registry
    assert registry.pull == PULL_BY_ALIAS
    assert set(registry.logins) == {*ADDRESSES[2:], f"[{host}]:5000", f"[{host}]:5001"}


def test_a_user_is_told_of_the_alias(users_place: Place) -> None:
    """No client needs it for IPv4: a note is enough."""
    users_place.write("/etc/hosts", "127.0.0.1 localhost\n")
    (note,) = [one for one in users_place.use("containers")["notes"] if ALIAS in one]
    assert f"'{FACTS['host']} {ALIAS}' put into /etc/hosts" in note
    users_place.write("/etc/hosts", LINE)
    assert not [one for one in users_place.use("containers")["notes"] if ALIAS in one]


def test_a_table_of_hosts_that_is_read_only_is_told(
    node: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sandbox: all else is done."""
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("/etc/hosts"))
    told = node.use("docker")
    assert [one for one in told["notes"] if ALIAS in one]
    assert node.read("/etc/hosts") == "127.0.0.1 localhost\n"


def test_daemons_know_the_alias_when_the_role_is_done(
    node: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program written in Go reads the table of hosts again after five seconds."""
    waits: list[float] = []
    monkeypatch.setattr("buildset_clients.clients.table.time.sleep", waits.append)
    monkeypatch.setattr(
        "buildset_clients.node.ManagedNode.processes",
        lambda self, program: {1: []} if program == "containerd" else {},
    )
    node.use("containers")
    assert waits == [5]
    node.use("containers")
    assert waits == [5]


def test_zuul_jobs_before_ours(node: Place) -> None:
    """Ours adds to it, neither changes anything again, and what theirs wrote stays."""
    zuul_jobs(node)
    before = node.tree()
    node.use(*CLIENTS)
    assert not zuul_jobs(node)
    assert not node.use(*CLIENTS)["changed"]
    node.restore()
    assert node.tree() == before


def test_ours_before_zuul_jobs(node: Place) -> None:
    """Neither changes anything again, and what theirs wrote stays when ours goes."""
    node.use(*CLIENTS)
    assert zuul_jobs(node)
    again = node.use(*CLIENTS)
    assert (again["paths"], again["notes"]) == ([], [])
    assert not zuul_jobs(node)
    told = node.restore()
    assert told["notes"] == []
    assert node.read("/etc/hosts") == f"127.0.0.1 localhost\n{LINE}"
    assert json.loads(node.read(DAEMON)) == {"registry-mirrors": [f"https://{PULL_BY_ALIAS}/"]}
    assert "quay.io" in json.loads(node.read(LOGINS))["auths"]
    assert PULL_BY_ALIAS in node.read(REGISTRIES)
    left = [name for name in node.tree() if re.search("buildset-registry.(crt|conf)", name)]
    assert not left


def test_podman_asks_the_registry_once(node: Place) -> None:
    """By its address; zuul-jobs' name for it would be the same registry again."""
    zuul_jobs(node)
    node.use("containers")
    drop_in = toml(node.read("/etc/containers/registries.conf.d/999-buildset-registry.conf"))
    mirrors = {one["prefix"]: one["mirror"] for one in drop_in["registry"]}
    assert mirrors["quay.io"] == [{"location": f"{PULL}/quay.io"}]


def test_buildkit_keeps_the_registry_by_the_alias(node: Place) -> None:
    """zuul-jobs' role would put its own name first again, at every run."""
    text = f'[registry]\n[registry."quay.io"]\nmirrors = ["{PULL_BY_ALIAS}/quay.io"]\n'
    node.write("/etc/buildkit/buildkitd.toml", text)
    node.use("buildkit")
    found = toml(node.read("/etc/buildkit/buildkitd.toml"))["registry"]
    assert found["quay.io"]["mirrors"] == [f"{PULL_BY_ALIAS}/quay.io"]
    assert found["docker.io"]["mirrors"] == [PULL]
    assert "ca" in found[PULL_BY_ALIAS]


def test_a_builder_is_made_with_the_daemon_s_file(node: Place) -> None:
    """zuul-jobs' role gives it to ``docker buildx create``, though there is no buildkitd."""
    before = node.tree()
    node.use("docker", "buildx")
    found = toml(node.read("/etc/buildkit/buildkitd.toml"))["registry"]
    assert found["quay.io"]["mirrors"] == [PULL]
    assert found[PUSH_BY_ALIAS]["ca"] == ["/etc/buildkit/buildset-registry.crt"]
    assert not node.use("docker", "buildkit", "buildx")["changed"]
    node.restore()
    assert node.tree() == before


def test_a_file_that_somebody_adds_to_stays_as_it_is(node: Place) -> None:
    """The second run takes nothing out to put it in again elsewhere."""
    node.use("docker")
    node.write("/etc/hosts", node.read("/etc/hosts") + "192.0.2.9 late\n")
    daemon = json.loads(node.read(DAEMON))
    node.write(DAEMON, nice({**daemon, "debug": True}))
    assert node.use("docker")["paths"] == []
    node.restore()
    assert node.read("/etc/hosts") == "127.0.0.1 localhost\n192.0.2.9 late\n"
    assert json.loads(node.read(DAEMON)) == {"debug": True}


def test_other_facts_replace_the_former_ones_in_a_file_that_somebody_added_to(node: Place) -> None:
    """What was made of it is no longer what is wanted."""
    node.use("docker")
    node.write("/etc/hosts", node.read("/etc/hosts") + "192.0.2.9 late\n")
    node.use("docker", host="198.51.100.12", push_host="198.51.100.12")
    assert FACTS["host"] not in node.read("/etc/hosts")
    assert f"198.51.100.12 {ALIAS}" in node.read("/etc/hosts")
