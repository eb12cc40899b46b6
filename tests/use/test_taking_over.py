# SPDX-License-Identifier: Apache-2.0
"""A new file of ours does not hide what has worked till then: it is taken over, and given back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from buildset_clients.errors import ClientError

from tests.use.places import PULL, Place, toml

CERTS = "/etc/containerd/certs.d"
NAME = "registry.example.com:5000"
OURS = f"https://{PULL}"
SERVER = f"https://{NAME}"
K3S = "/etc/rancher/k3s/registries.yaml"
MICROK8S = "/var/snap/microk8s/current/args/certs.d"


def roundtrip(place: Place, *clients: str) -> None:
    """Check that a second run changes nothing; undone, all is as it was before the first."""
    before = place.tree()
    place.use(*clients)
    assert not place.use(*clients)["changed"]
    place.restore()
    assert place.tree() == before
    place.use(*clients)


def hosts(place: Place, path: str) -> dict[str, Any]:
    """Read a hosts.toml, whose first host is ours, and return the rest."""
    found = toml(place.read(path))
    assert next(iter(found["host"])) == OURS
    del found["host"][OURS]
    return found


@pytest.mark.parametrize(
    ("client", "folder"),
    [("containerd", CERTS), ("docker", "/etc/docker/certs.d"), ("microk8s", MICROK8S)],
)
@pytest.mark.parametrize("name", [NAME, "registry.example.com_5000_"])
def test_certificates_that_stood_alone_are_named(
    place: Place, client: str, folder: str, name: str
) -> None:
    """An authority, a certificate of the client with its key, and one that has the key in it."""
    for one in ("ca.crt", "client.cert", "client.key", "one.cert"):
        place.write(f"{folder}/{name}/{one}", "")
    roundtrip(place, client)
    at = f"{folder}/{name}"
    assert hosts(place, f"{at}/hosts.toml") == {
        "server": SERVER,
        "ca": [f"{at}/ca.crt"],
        "client": [[f"{at}/client.cert", f"{at}/client.key"], f"{at}/one.cert"],
        "host": {},
    }


DEFAULT = """ca = "ca.pem"
[header]
  x-a = ["b"]
[host."https://m"]
  capabilities = ["pull"]
  client = [["c.pem", "/k.pem"]]
[host."https://m".header]
  x-b = "c"
[host."https://a"]
"""


def test_the_hosts_of_every_registry_come_after_ours(place: Place) -> None:
    """Paths are those of their folder; the file of every registry stays."""
    place.write(f"{CERTS}/_default/hosts.toml", DEFAULT)
    roundtrip(place, "containerd")
    found = hosts(place, f"{CERTS}/docker.io/hosts.toml")
    assert found.pop("server") == "https://registry-1.docker.io"
    assert list(found["host"]) == ["https://m", "https://a"]
    mirror = {"capabilities": ["pull"], "client": [[f"{CERTS}/_default/c.pem", "/k.pem"]]}
    assert found == {
        "ca": f"{CERTS}/_default/ca.pem",
        "header": {"x-a": ["b"]},
        "host": {"https://m": {**mirror, "header": {"x-b": "c"}}, "https://a": {}},
    }
    assert place.read(f"{CERTS}/_default/hosts.toml") == DEFAULT
    assert "https://m" not in place.read(f"{CERTS}/{PULL}/hosts.toml")


def test_a_registry_s_own_folder_hides_that_of_every_one_as_before(place: Place) -> None:
    """Be it one without certificates."""
    place.write(f"{CERTS}/_default/hosts.toml", DEFAULT)
    place.write(f"{CERTS}/quay.io/README", "")
    roundtrip(place, "containerd")
    assert hosts(place, f"{CERTS}/quay.io/hosts.toml") == {"server": "https://quay.io", "host": {}}


def test_what_a_second_folder_has_is_taken_over(place: Place) -> None:
    """But not what another client has of us there, of this registry or of the last one."""
    cri = 'plugins."io.containerd.grpc.v1.cri".registry'
    path = f'version = 2\n[{cri}]\n  config_path = "{CERTS}:/etc/docker/certs.d"\n'
    place.write("/etc/containerd/config.toml", path)
    place.write("/etc/docker/certs.d/quay.io/hosts.toml", '[host."https://m"]\n')
    place.write(f"/etc/docker/certs.d/{NAME}/ca.crt", "")
    roundtrip(place, "containerd", "docker")
    place.use("containerd", "docker", host="198.51.100.99", push_host="198.51.100.99")
    text = place.read(f"{CERTS}/quay.io/hosts.toml")
    assert PULL not in text
    assert list(toml(text)["host"]) == ["https://198.51.100.99:5000", "https://m"]
    found = toml(place.read(f"{CERTS}/{NAME}/hosts.toml"))
    assert found["ca"] == [f"/etc/docker/certs.d/{NAME}/ca.crt"]


def test_certificates_of_minikube_are_named_where_its_nodes_have_them(place: Place) -> None:
    """The folder is copied into them."""
    folder = f"/root/.minikube/files{CERTS}/{NAME}"
    place.write(f"{folder}/ca.crt", "")
    roundtrip(place, "minikube")
    assert hosts(place, f"{folder}/hosts.toml")["ca"] == [f"{CERTS}/{NAME}/ca.crt"]


def mirrors(place: Place) -> dict[str, Any]:
    """Tell the mirrors of registries.yaml."""
    found = yaml.safe_load(place.read(K3S))["mirrors"]
    assert isinstance(found, dict)
    return found


def test_k3s_has_the_entry_of_every_registry_beside_ours(place: Place) -> None:
    """Only for a registry that has no entry of its own, be it an empty one."""
    place.write(K3S, 'mirrors:\n  "*": {endpoint: [https://m]}\n  quay.io:\n')
    roundtrip(place, "k3s")
    found = mirrors(place)
    assert found["docker.io"] == {"endpoint": [OURS, "https://m"]}
    assert found["quay.io"] == {"endpoint": [OURS]}
    assert found["*"] == {"endpoint": ["https://m"]}


@pytest.mark.parametrize("name", ["docker.io", "'*'"])
def test_a_rewrite_that_k3s_would_apply_to_our_endpoint_is_refused(place: Place, name: str) -> None:
    """One of another registry stays."""
    rewrite = 'endpoint: [https://m]\n    rewrite: {"^(.*)$": "hub/$1"}\n'
    text = f"mirrors:\n  {name}:\n    {rewrite}"
    place.write(K3S, text)
    before = place.tree()
    with pytest.raises(ClientError, match=rf"{K3S}: mirrors\.\S+ has rewrite, .* take rewrite out"):
        place.use("k3s")
    assert place.tree() == before
    place.write(K3S, f"mirrors:\n  ghcr.io:\n    {rewrite}")
    place.use("k3s")
    assert mirrors(place)["ghcr.io"]["rewrite"] == {"^(.*)$": "hub/$1"}


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("mirrors: {docker.io: {endpoint: https://m}}", ["https://m"]),
        ("mirrors: {docker.io: {endpoint: }}", []),
        ("mirrors: {docker.io: }", []),
        ("x: &a {endpoint: [https://m]}\nmirrors: {docker.io: *a}", ["https://m"]),
        ("x: &a {endpoint: [https://m]}\nmirrors: {docker.io: {<<: *a}}", ["https://m"]),
    ],
)
def test_k3s_endpoints_of_every_form_come_after_ours(
    place: Place, text: str, endpoints: list[str]
) -> None:
    """A word for a list, nothing, anchors."""
    place.write(K3S, text)
    roundtrip(place, "k3s")
    assert mirrors(place)["docker.io"] == {"endpoint": [OURS, *endpoints]}


WRONG = {
    "mirrors: {docker.io: [https://m]}": "mirrors.docker.io is not a mapping",
    "mirrors: {docker.io: https://m}": "mirrors.docker.io is not a mapping",
    "mirrors: {ghcr.io: {endpoint: {a: b}}}": "mirrors.ghcr.io.endpoint is not a list of URLs",
    "mirrors: {docker.io: {endpoint: [[a]]}}": "mirrors.docker.io.endpoint is not a list of URLs",
    "mirrors: []": "mirrors is not an object",
    "configs: {m: []}": "configs.m is not a mapping",
    "mirrors: &a\n  docker.io: *a": "mend the file",
    "configs: {? [a] : b}": "not YAML",
    "a: !!python/object:x y": "not YAML",
    "[a]": "not a YAML mapping",
}


@pytest.mark.parametrize("text", WRONG)
def test_registries_yaml_of_another_form_is_named(place: Place, text: str) -> None:
    """In one line, with its place; nothing is written."""
    place.write(K3S, text)
    before = place.tree()
    with pytest.raises(ClientError) as caught:
        place.use("k3s")
    message = str(caught.value)
    assert message.startswith(K3S)
    assert WRONG[text] in message
    assert "\n" not in message
    assert place.tree() == before


def test_registries_yaml_that_is_no_utf_8_is_named(place: Place) -> None:
    """With the place, in one line."""
    (place.write(K3S, "")).write_bytes(b"mirrors: {}\n# ol\xe9\n")
    with pytest.raises(ClientError, match=rf"^{K3S}: not UTF-8 or not text, at byte 16; mend"):
        place.use("k3s")


def test_k3s_reads_the_same_words_as_before(place: Place) -> None:
    """A number with a zero before it, a date and ``no`` are text where text is wanted."""
    auth = "auth: {username: 2024-01-01, password: 0123, auth: no}"
    tls = "tls: {insecure_skip_verify: yes}"
    more = "b: {tls: {insecure_skip_verify: true}}"
    place.write(K3S, f"configs:\n  a: {{{auth}, {tls}}}\n  {more}\n  c:\n")
    roundtrip(place, "k3s")
    found = yaml.safe_load(place.read(K3S))["configs"]
    assert found["a"]["auth"] == {"username": "2024-01-01", "password": "0123", "auth": "no"}
    assert found["a"]["tls"] == found["b"]["tls"] == {"insecure_skip_verify": True}
    assert found["c"] is None


@pytest.mark.parametrize("name", ["config.yaml", "config.yaml.d/10.yaml"])
def test_the_file_that_k3s_is_told_of_is_written(place: Place, name: str) -> None:
    """By its own settings."""
    place.write(f"/etc/rancher/k3s/{name}", "private-registry: /etc/other.yaml\n")
    roundtrip(place, "k3s")
    assert OURS in place.read("/etc/other.yaml")
    assert not (place.root / K3S[1:]).exists()
