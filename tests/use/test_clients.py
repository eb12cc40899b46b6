# SPDX-License-Identifier: Apache-2.0
"""The files that each client is given, read back as the client reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildset_clients import proxies
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode

from tests.use.places import (
    ADDRESSES,
    ALIAS,
    FACTS,
    LOGIN,
    NAMESPACES,
    PULL,
    PUSH,
    Place,
    make_setup,
    toml,
)

DROP_IN = "registries.conf.d/999-buildset-registry.conf"
CERTIFICATE = "buildset-registry.crt"
HOST = {"capabilities": ["pull", "resolve"], "header": {"authorization": f"Basic {LOGIN}"}}


def registries(place: Place, folder: str = "/etc/containers") -> dict[str, Any]:
    """Read the drop-in; the entries by prefix."""
    found = toml(place.read(f"{folder}/{DROP_IN}"))
    return {one["prefix"]: one for one in found["registry"]}


def test_containers_have_a_mirror_of_each_registry_short_names_and_trust(place: Place) -> None:
    """A mirror for each registry, short names, and trust."""
    place.use("containers")
    found = registries(place)
    assert found["quay.io"]["mirror"] == [{"location": f"{PULL}/quay.io"}]
    assert found["registry.example.com:5000"]["mirror"] == [
        {"location": f"{PULL}/registry.example.com__5000"}
    ]
    text = place.read(f"/etc/containers/{DROP_IN}")
    assert toml(text)["unqualified-search-registries"] == ["docker.io"]
    for address in (PULL, PUSH):
        assert place.read(f"/etc/containers/certs.d/{address}/{CERTIFICATE}") == FACTS["cert"]


def test_all_that_a_user_is_given_is_in_the_home(users_place: Place) -> None:
    """The backups too."""
    users_place.use("containers")
    assert "docker.io" in registries(users_place, "/home/someone/.config/containers")
    made = [name for name, (content, _) in users_place.tree().items() if content]
    assert all(name.startswith("home/someone/") for name in made)


def test_containers_keep_what_is_set_for_a_registry(place: Place) -> None:
    """Another mirror comes after ours; a longer prefix does not pass ours by."""
    place.write(
        "/etc/containers/registries.conf",
        'unqualified-search-registries = ["quay.io"]\n[[registry]]\nlocation = "quay.io"\n'
        'insecure = false\n[[registry.mirror]]\nlocation = "m"\ninsecure = true\n'
        '[[registry]]\nprefix = "docker.io/library"\nlocation = "n/library"\n',
    )
    place.use("containers")
    found = registries(place)
    mirrors = [{"location": f"{PULL}/quay.io"}, {"location": "m", "insecure": True}]
    entry = {"location": "quay.io", "insecure": False, "mirror": mirrors}
    assert found["quay.io"] == {"prefix": "quay.io", **entry}
    library = {"location": f"{PULL}/docker.io/library"}
    assert found["docker.io/library"]["location"] == "n/library"
    assert found["docker.io/library"]["mirror"] == [library]


def test_credentials_for_both_endpoints_are_in_both_files(place: Place) -> None:
    """They are readable by their owner alone."""
    place.use("containers")
    for name in ("/root/.docker/config.json", "/root/.config/containers/auth.json"):
        logins = json.loads(place.read(name))["auths"]
        assert logins == {address: {"auth": LOGIN} for address in ADDRESSES}
        assert (place.root / name[1:]).stat().st_mode & 0o077 == 0


def test_a_credential_store_is_not_asked_for_the_registry(place: Place) -> None:
    """docker asks its file for the registry, and the store for all others."""
    place.write("/root/.docker/config.json", '{"credsStore": "pass"}')
    place.write("/bin/docker-credential-pass", "#!/bin/sh\n", 0o755)
    place.use("docker")
    found = json.loads(place.read("/root/.docker/config.json"))
    assert found["credsStore"] == "pass"
    assert found["credHelpers"] == dict.fromkeys(ADDRESSES, "")
    assert found["auths"][PULL] == {"auth": LOGIN}


def test_no_difference_shows_the_password(place: Place) -> None:
    """Neither it nor its encoded form."""
    told = json.dumps(place.use())
    assert FACTS["password"] not in told
    assert LOGIN not in told


def test_docker_has_a_mirror_and_trust(place: Place) -> None:
    """The mirror is in daemon.json, the certificate in certs.d."""
    place.use("docker")
    found = json.loads(place.read("/etc/docker/daemon.json"))
    assert found == {"registry-mirrors": [f"https://{PULL}"]}
    assert place.read(f"/etc/docker/certs.d/{PUSH}/{CERTIFICATE}") == FACTS["cert"]


@pytest.mark.parametrize("is_root", [True, False])
def test_docker_with_images_in_containerd_has_a_mirror_of_each_registry(
    tmp_path: Path, is_root: bool
) -> None:
    """They are in containerd's kind of file."""
    used = Place.make(tmp_path / "node", is_root=is_root)
    used.use("docker")
    folder = "/etc/docker/certs.d" if is_root else "/home/someone/.config/docker/certs.d"
    ours = {**HOST, "ca": f"{folder}/{PULL}/{CERTIFICATE}"}
    for name, server in NAMESPACES:
        hosts = toml(used.read(f"{folder}/{name}/hosts.toml"))
        assert hosts == {"server": server, "host": {f"https://{PULL}": ours}}


CONFIGURATIONS = {
    "none": (None, ["plugins", "io.containerd.grpc.v1.cri", "registry"]),
    "1": ('[plugins.cri]\nsandbox_image = "a"\n', ["plugins", "cri", "registry"]),
    "2": ("version = 2\n", ["plugins", "io.containerd.grpc.v1.cri", "registry"]),
    "2 with a table": (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = ""\n',
        ["plugins", "io.containerd.grpc.v1.cri", "registry"],
    ),
    "3": ("version = 3\n", ["plugins", "io.containerd.cri.v1.images", "registry"]),
    "3 of 4": ("version = 4\n", ["plugins", "io.containerd.cri.v1.images", "registry"]),
    "3, literal": (
        "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = ''\n",
        ["plugins", "io.containerd.cri.v1.images", "registry"],
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_containerd_of_each_version_reads_the_folder(place: Place, name: str) -> None:
    """Each version of the file is made to read the folder, the transfer service too."""
    text, table = CONFIGURATIONS[name]
    if text is not None:
        place.write("/etc/containerd/config.toml", text)
    place.use("containerd")
    found: Any = toml(place.read("/etc/containerd/config.toml"))
    inner = found
    for step in table:
        inner = inner[step]
    assert inner == {"config_path": "/etc/containerd/certs.d"}
    if name.startswith("3"):
        transfer = found["plugins"]["io.containerd.transfer.v1.local"]
        assert transfer == {"config_path": "/etc/containerd/certs.d"}
    hosts = toml(place.read("/etc/containerd/certs.d/docker.io/hosts.toml"))
    ours = {**HOST, "ca": f"/etc/containerd/certs.d/{CERTIFICATE}"}
    assert hosts == {"server": "https://registry-1.docker.io", "host": {f"https://{PULL}": ours}}
    pushing = toml(place.read(f"/etc/containerd/certs.d/{PUSH}/hosts.toml"))
    assert "push" in pushing["host"][f"https://{PUSH}"]["capabilities"]


def test_containerd_keeps_the_folder_that_it_reads_already(place: Place) -> None:
    """That folder gets the files, and the configuration stays."""
    text = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/srv/c:/d"\n'
    )
    place.write("/etc/containerd/config.toml", text)
    place.use("containerd")
    assert place.read("/etc/containerd/config.toml") == text
    assert "https" in place.read("/srv/c/quay.io/hosts.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n'
            'endpoint = ["https://m"]\n',
            "registry.mirrors",
        ),
        ("version = 5\n", "version 5"),
        ('version = "2"\n', "version is '2', which is no number; write version = 2"),
        ('version = 2\nplugins = {"io.containerd.grpc.v1.cri" = {}}\n', "by hand"),
    ],
)
def test_a_containerd_that_cannot_be_configured_says_why(
    place: Place, text: str, words: str
) -> None:
    """And what to do; the file stays."""
    place.write("/etc/containerd/config.toml", text)
    with pytest.raises(ClientError, match=words):
        place.use("containerd")
    assert place.read("/etc/containerd/config.toml") == text


def test_buildkit_and_its_builders_have_mirrors_and_trust(place: Place) -> None:
    """Mirrors by address, and trust, for the daemon and for builders in containers."""
    place.use("buildkit", "buildx")
    for folder, name in {
        "/etc/buildkit": "buildkitd",
        "/root/.docker/buildx": "buildkitd.default",
    }.items():
        found = toml(place.read(f"{folder}/{name}.toml"))["registry"]
        assert found["registry.example.com:5000"] == {"mirrors": [PULL]}
        assert found[PUSH] == {"ca": [f"{folder}/{CERTIFICATE}"]}
        assert place.read(f"{folder}/{CERTIFICATE}") == FACTS["cert"]


@pytest.mark.parametrize("client", ["k3s", "rke2"])
def test_k3s_and_rke2_have_mirrors_beside_those_that_there_are(place: Place, client: str) -> None:
    """In registries.yaml."""
    folder = f"/etc/rancher/{client}"
    place.write(f"{folder}/registries.yaml", "mirrors:\n  quay.io:\n    endpoint: [https://m]\n")
    place.use(client)
    found = yaml.safe_load(place.read(f"{folder}/registries.yaml"))
    assert found["mirrors"]["quay.io"] == {"endpoint": [f"https://{PULL}", "https://m"]}
    login = {"username": FACTS["username"], "password": FACTS["password"]}
    assert found["configs"][PULL] == {"auth": login, "tls": {"ca_file": f"{folder}/{CERTIFICATE}"}}


FOLDERS = {
    "microk8s": "/var/snap/microk8s/current/args/certs.d",
    "minikube": "/root/.minikube/files/etc/containerd/certs.d",
    "kind": "/root/.config/kind-buildset-registry/certs.d",
}


@pytest.mark.parametrize("client", FOLDERS)
def test_containerd_inside_another_client_reads_hosts_toml(place: Place, client: str) -> None:
    """The folder of hosts.toml files, whose certificate is where containerd sees it."""
    place.use(client)
    found = toml(place.read(f"{FOLDERS[client]}/quay.io/hosts.toml"))
    seen = FOLDERS[client] if client == "microk8s" else "/etc/containerd/certs.d"
    assert found["host"][f"https://{PULL}"]["ca"] == f"{seen}/{CERTIFICATE}"
    if client == "kind":
        cluster = yaml.safe_load(place.read("/root/.config/kind-buildset-registry/cluster.yaml"))
        (mount,) = cluster["nodes"][0]["extraMounts"]
        assert mount == {"hostPath": FOLDERS["kind"], "containerPath": seen}


def test_the_alias_stands_for_an_ipv6_literal(place: Place) -> None:
    """Another address that it had is replaced."""
    place.write("/etc/hosts", "127.0.0.1 localhost\n192.0.2.9 zuul-jobs.buildset-registry\n")
    place.use("docker", host="2001:db8::1", push_host="2001:db8::1")
    found = place.read("/etc/hosts")
    assert found == "127.0.0.1 localhost\n2001:db8::1 zuul-jobs.buildset-registry\n"
    daemon = json.loads(place.read("/etc/docker/daemon.json"))
    assert daemon["registry-mirrors"] == ["https://zuul-jobs.buildset-registry:5000"]


def test_a_user_is_told_the_line_that_an_ipv6_literal_needs(users_place: Place) -> None:
    """A user may not write /etc/hosts."""
    users_place.write("/etc/hosts", "127.0.0.1 localhost\n")
    with pytest.raises(ClientError, match=r"'2001:db8::1 zuul-jobs.buildset-registry'"):
        users_place.use("docker", host="2001:db8::1")


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("/etc/pki/ca-trust/source/anchors", "update-ca-trust"),
        ("/etc/pki/trust/anchors", "update-ca-certificates"),
        ("/etc/ca-certificates/trust-source/anchors", "trust"),
        ("/usr/local/share/ca-certificates", "update-ca-certificates"),
    ],
)
def test_the_system_s_store_is_made_anew_with_the_certificate(
    place: Place, folder: str, command: str
) -> None:
    """The certificate goes where the distribution has such ones; the links of the store, which
    are named after hashes, are the command's, which is run again when it is gone."""
    (place.root / folder[1:]).mkdir(parents=True, exist_ok=True)
    links = place.write("/etc/pki/tls/certs/README", "").parent
    script = f"#!/bin/sh\nrm -f {links}/*.0; i=0\n"
    script += (
        f'for one in {place.root}{folder}/*; do [ ! -e "$one" ] || ln -s $one {links}/$i.0; done\n'
    )
    place.write(f"/bin/{command}", script, 0o755)
    before = place.tree()
    place.node = ManagedNode(
        place.root, place.node.accounts, True, f"{place.root}/bin:/usr/bin:/bin"
    )
    place.use("containers")
    assert place.read(f"{folder}/{CERTIFICATE}") == FACTS["cert"]
    assert (links / "0.0").resolve().name == CERTIFICATE
    place.restore()
    assert place.tree() == before


def test_no_link_is_left_to_a_certificate_that_has_gone(place: Place) -> None:
    """Debian's command removes none where it adds none; those that were there before stay."""
    folder, links = place.root / "usr/local/share/ca-certificates", place.root / "etc/ssl/certs"
    for made in (folder, links):
        made.mkdir(parents=True, exist_ok=True)
    (links / "somebody-else.pem").symlink_to(folder / "somebody-else.crt")
    adding = f"""#!/bin/sh
    cd {links} && [ -e {folder}/{CERTIFICATE} ] || exit 0
    ln -sf {folder}/{CERTIFICATE} buildset-registry.pem && ln -sf buildset-registry.pem 0a1b2c3d.0
    """
    place.write("/bin/update-ca-certificates", adding, 0o755)
    path = f"{place.root}/bin:/usr/bin:/bin"
    place.node = ManagedNode(place.root, place.node.accounts, True, path)
    before = place.tree()
    place.use("containers")
    assert (links / "0a1b2c3d.0").read_text() == FACTS["cert"]
    place.restore()
    assert place.tree() == before
    assert [one.name for one in links.iterdir()] == ["somebody-else.pem"]


def test_docker_by_a_proxy_has_an_environment_that_root_alone_reads(place: Place) -> None:
    """And trust for the names that are answered."""
    place.write("/etc/ssl/certs/any.pem", "")
    told = place.use("docker", proxy_port=5002)
    assert FACTS["password"] not in json.dumps(told)
    path = "/etc/docker/buildset-registry.env"
    assert place.read(path).splitlines() == [
        f"HTTPS_PROXY=https://zuul:{FACTS['password']}@198.51.100.11:5002",
        f"NO_PROXY=198.51.100.11,{ALIAS}",
        "SSL_CERT_DIR=/etc/ssl/certs:/etc/docker/buildset-registry",
    ]
    assert (place.root / path[1:]).stat().st_mode & 0o077 == 0
    unit = place.read("/etc/systemd/system/docker.service.d/zz-buildset-registry.conf")
    assert f"EnvironmentFile={path}" in unit
    assert place.read(f"/etc/docker/certs.d/quay.io/{CERTIFICATE}") == FACTS["cert"]
    assert not (place.root / f"etc/docker/certs.d/docker.io/{CERTIFICATE}").exists()
    place.use("docker")
    assert not (place.root / path[1:]).exists()


@pytest.mark.parametrize("name", ["https-proxy", "no-proxy"])
def test_a_proxy_of_docker_s_own_is_refused_without_its_value(place: Place, name: str) -> None:
    """It would come before the registry's: the error says so."""
    text = json.dumps({"proxies": {name: "https://me:my-own@192.0.2.1:3128", "http-proxy": "p"}})
    place.write("/etc/docker/daemon.json", text)
    with pytest.raises(ClientError, match=f"daemon.json has {name} in proxies") as caught:
        place.use("docker", proxy_port=5002)
    assert "my-own" not in str(caught.value)
    assert place.read("/etc/docker/daemon.json") == text
    place.use("docker")
    hosts = ",".join(proxies.hosts(make_setup().registry))
    direct = {"no-proxy": hosts} if name == "https-proxy" else {}
    expected = {**json.loads(text)["proxies"], **direct}
    assert json.loads(place.read("/etc/docker/daemon.json"))["proxies"] == expected
