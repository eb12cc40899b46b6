# SPDX-License-Identifier: Apache-2.0
"""Configurations as people have published them: of snaps, of other folders, with wrong values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode

from tests.use.places import ADDRESSES, FACTS, LOGIN, PULL, Place, toml

BUILDKITD = "/etc/buildkit/buildkitd.toml"
SNAP = "/var/snap/docker/current"
CERTS, DOCKER_CERTS = "/etc/containerd/certs.d", "/etc/docker/certs.d"
AGENT = "/var/lib/rancher/{}/agent/etc/containerd/{}"


def roundtrip(place: Place, *clients: str) -> None:
    """Check that a second run changes nothing; undone, all is as it was before the first."""
    before = place.tree()
    place.use(*clients)
    assert not place.use(*clients)["changed"]
    place.restore()
    assert place.tree() == before
    place.use(*clients)


def refused(place: Place, client: str, *words: str, **facts: Any) -> None:
    """Check that the one line has these words, and that nothing is written."""
    before = place.tree()
    with pytest.raises(ClientError) as caught:
        place.use(client, **facts)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert place.tree() == before


@pytest.mark.parametrize(
    ("table", "entry", "words"),
    [
        ("docker.io", 'mirrors = "m.example.com"', 'mirrors of [registry."docker.io"] is no list'),
        ("quay.io", "mirrors = [1]", "write mirrors = [...] there"),
        (PULL, 'ca = "/etc/ca.pem"', f'ca of [registry."{PULL}"] is no list'),
    ],
)
def test_a_text_for_a_list_of_buildkit_s_is_refused(
    place: Place, table: str, entry: str, words: str
) -> None:
    """BuildKit does not start by it; each letter of it was taken for a mirror."""
    place.write(BUILDKITD, f'[registry."{table}"]\n  {entry}\n')
    refused(place, "buildkit", BUILDKITD, words, "nothing was changed")


def test_buildkit_asks_the_registry_by_tls_whatever_was_there_before(place: Place) -> None:
    """A registry without it had the address, and the public image came in place of ours."""
    place.write(BUILDKITD, f'[registry."{PULL}"]\n  http = true\n  insecure = true\n')
    roundtrip(place, "buildkit")
    found = toml(place.read(BUILDKITD))["registry"][PULL]
    assert found["http"] is False
    assert found["insecure"] is True


def test_docker_of_a_snap_has_its_files_in_the_snap(place: Place) -> None:
    """The daemon reads none of the system's."""
    place.write(f"{SNAP}/config/daemon.json", '{\n    "log-level": "error"\n}\n')
    roundtrip(place, "docker")
    settings = json.loads(place.read(f"{SNAP}/config/daemon.json"))
    assert settings == {"log-level": "error", "registry-mirrors": [f"https://{PULL}"]}
    folder = f"{SNAP}/etc/docker/certs.d"
    assert place.read(f"{folder}/{PULL}/buildset-registry.crt") == FACTS["cert"]
    assert PULL in place.read(f"{folder}/quay.io/hosts.toml")
    assert not (place.root / "etc/docker").exists()
    place.restore()
    refused(place, "docker", "docker is a snap", "install docker by its packages", proxy_port=5002)


def test_docker_of_a_package_beside_a_snap_is_the_one_that_is_meant(place: Place) -> None:
    """Where both are there, and neither runs."""
    place.write(f"{SNAP}/config/daemon.json", "{}")
    place.write("/bin/dockerd", "#!/bin/sh\n", 0o755)
    place.use("docker")
    assert PULL in place.read("/etc/docker/daemon.json")
    assert place.read(f"{SNAP}/config/daemon.json") == "{}"


def test_docker_that_runs_is_no_snap_by_what_a_snap_has_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snap's daemon has its file on its command line."""
    place.write(f"{SNAP}/config/daemon.json", "{}")
    monkeypatch.setattr(ManagedNode, "processes", lambda _node, _program: {2**22: []})
    place.use("docker")
    assert PULL in place.read("/etc/docker/daemon.json")
    revision = "/var/snap/docker/2893/config/daemon.json"
    arguments = [f"--config-file={revision}"]
    monkeypatch.setattr(ManagedNode, "processes", lambda _node, _program: {2**22: arguments})
    place.use("docker")
    assert PULL in place.read(revision)


@pytest.mark.parametrize(
    ("variable", "value", "path"),
    [
        ("DOCKER_CONFIG", "/root/docker", "/root/docker/config.json"),
        ("DOCKER_CONFIG", "/srv/docker", "/srv/docker/config.json"),
        ("REGISTRY_AUTH_FILE", "/srv/auth.json", "/srv/auth.json"),
    ],
)
def test_the_logins_that_the_environment_names_are_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, path: str
) -> None:
    """Tools read that file alone; those of the home are for a shell without the variable."""
    monkeypatch.setenv(variable, value)
    place.write(path, '{"auths": {"quay.io": {"auth": "eDp5"}}}')
    roundtrip(place, "containers")
    logins = json.loads(place.read(path))["auths"]
    assert logins == {"quay.io": {"auth": "eDp5"}, **{one: {"auth": LOGIN} for one in ADDRESSES}}
    assert (place.root / path[1:]).stat().st_mode & 0o077 == 0
    assert LOGIN in place.read("/root/.docker/config.json")


def test_a_store_of_the_file_that_the_environment_names_is_passed_by(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of the home is."""
    monkeypatch.setenv("DOCKER_CONFIG", "/srv/docker")
    place.write("/srv/docker/config.json", '{"credsStore": "desktop"}')
    roundtrip(place, "docker")
    assert "credsStore" not in json.loads(place.read("/srv/docker/config.json"))


@pytest.mark.parametrize("value", ["", "relative"])
def test_a_variable_that_names_no_place_is_passed_by(
    place: Place, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Where the file is depends on the folder that a tool is run in."""
    monkeypatch.setenv("DOCKER_CONFIG", value)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", value)
    roundtrip(place, "containers")


NERDCTL = "/etc/nerdctl/nerdctl.toml"


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("debug = false\n", CERTS),
        (f'hosts_dir = ["{DOCKER_CERTS}"]\n', DOCKER_CERTS),
        (f'hosts_dir = ["/srv/certs.d", "{CERTS}"]\n', "/srv/certs.d"),
    ],
)
def test_nerdctl_has_the_mirrors_in_its_own_first_folder(
    place: Place, text: str, folder: str
) -> None:
    """Beside what containerd and docker are given, which may be the same files."""
    place.write(NERDCTL, text)
    roundtrip(place, "containerd", "docker", "nerdctl")
    for name in ("docker.io", "registry.example.com:5000"):
        hosts = toml(place.read(f"{folder}/{name}/hosts.toml"))
        assert next(iter(hosts["host"])) == f"https://{PULL}"


def test_nerdctl_of_a_user_has_its_folder_below_the_home(users_place: Place) -> None:
    """As it has a containerd of the user's own."""
    roundtrip(users_place, "nerdctl")
    assert PULL in users_place.read("/home/someone/.config/containerd/certs.d/quay.io/hosts.toml")


@pytest.mark.parametrize("value", ['"/srv/certs.d"', "[1]", "true"])
def test_a_folder_of_nerdctl_s_that_is_no_list_is_refused(place: Place, value: str) -> None:
    """With the file and what to write."""
    place.write(NERDCTL, f"hosts_dir = {value}\n")
    refused(place, "nerdctl", NERDCTL, "hosts_dir is no list", "write hosts_dir = [")


@pytest.mark.parametrize(
    ("variable", "value", "client", "path"),
    [
        (
            "MINIKUBE_HOME",
            "/srv/m",
            "minikube",
            f"/srv/m/.minikube/files{CERTS}/quay.io/hosts.toml",
        ),
        (
            "MINIKUBE_HOME",
            "/m/.minikube",
            "minikube",
            f"/m/.minikube/files{CERTS}/quay.io/hosts.toml",
        ),
        ("BUILDX_CONFIG", "/srv/buildx", "buildx", "/srv/buildx/buildkitd.default.toml"),
        ("DOCKER_CONFIG", "/srv/docker", "buildx", "/srv/docker/buildx/buildkitd.default.toml"),
        ("NERDCTL_TOML", "/srv/n.toml", "nerdctl", "/srv/certs.d/quay.io/hosts.toml"),
    ],
)
def test_a_folder_that_the_environment_names_is_the_one_that_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, client: str, path: str
) -> None:
    """The program reads no other one."""
    monkeypatch.setenv(variable, value)
    place.write("/srv/n.toml", 'hosts_dir = ["/srv/certs.d"]\n')
    roundtrip(place, client)
    assert PULL in place.read(path)


@pytest.mark.parametrize("client", ["k3s", "rke2"])
@pytest.mark.parametrize("name", ["config.toml.tmpl", "config-v3.toml.tmpl"])
def test_a_template_by_which_no_mirror_is_read_is_refused(
    place: Place, client: str, name: str
) -> None:
    """Its containerd would ask the public registries; one that stands on k3s's own is fine."""
    path = AGENT.format(client, name)
    place.write(path, "version = 2\n# config_path\n[plugins.cri]\n")
    refused(place, client, path, 'begin it with {{ template "base" . }}')
    for text in (
        '{{ template "base" . }}\n',
        '  config_path = "/x"\n',
        "{{ .PrivateRegistryConfig }}",
    ):
        place.write(path, text)
        roundtrip(place, client)
        place.restore()


def test_a_folder_of_docker_s_certificates_that_is_a_link_stays_one(place: Place) -> None:
    """What is in it is the role's as elsewhere."""
    (place.root / "etc/pki/docker").mkdir(parents=True)
    (place.root / "etc/docker").mkdir()
    (place.root / DOCKER_CERTS[1:]).symlink_to("../pki/docker")
    roundtrip(place, "docker")
    assert PULL in place.read("/etc/pki/docker/quay.io/hosts.toml")
    assert (place.root / DOCKER_CERTS[1:]).is_symlink()
