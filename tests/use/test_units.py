# SPDX-License-Identifier: Apache-2.0
"""A daemon that does not run is known by its unit: its files, its environment, its arguments."""

from __future__ import annotations

import json

import pytest
import yaml
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode
from buildset_clients.units import Unit

from tests.use.places import PULL, Place
from tests.use.test_effective import FOLDER, config_path
from tests.use.test_proxies import DIRECT, PROXY, running

LIB, ETC = "/usr/lib/systemd/system", "/etc/systemd/system"
OTHER = "/srv/containerd.toml"


def unit(place: Place, *lines: str, name: str = "containerd", folder: str = LIB) -> None:
    """Write a unit."""
    place.write(f"{folder}/{name}.service", "\n".join(["[Service]", *lines, ""]))


@pytest.mark.parametrize(
    "lines",
    [
        [f"ExecStart=/usr/bin/containerd -c {OTHER}"],
        [f"ExecStart=-/usr/bin/containerd --config={OTHER} --log-level debug"],
        ["ExecStart=/usr/bin/containerd \\", f"    '--config' '{OTHER}'"],
        [f'Environment="ARGS=--config {OTHER}"', "ExecStart=/usr/bin/containerd $ARGS"],
        [f"Environment=FILE={OTHER}", "ExecStart=/usr/bin/containerd --config ${FILE}"],
        ["EnvironmentFile=-/etc/default/c", "ExecStart=/usr/bin/containerd $ARGS"],
        [f"ExecStart=/usr/bin/nice -n 5 /usr/bin/containerd -c {OTHER}"],
    ],
)
def test_containerd_that_does_not_run_reads_the_file_of_its_unit(
    place: Place, lines: list[str]
) -> None:
    """Not the usual one, which nobody reads then."""
    place.write("/etc/default/c", f"ARGS='-c {OTHER}'\n")
    unit(place, *lines)
    before = place.tree()
    place.use("containerd")
    assert config_path(place, OTHER) == FOLDER
    assert not (place.root / "etc/containerd/config.toml").exists()
    assert not place.use("containerd")["changed"]
    place.restore()
    assert place.tree() == before


def test_of_a_unit_the_last_word_counts(place: Place) -> None:
    """A file in /etc stands in for the package's, and drop-ins for what they forget."""
    unit(place, "ExecStart=/usr/bin/containerd -c /wrong.toml", "Environment=A=1 B=1")
    unit(place, "ExecStart=/usr/bin/containerd", "Environment=A=2", folder=ETC)
    place.write(f"{LIB}/containerd.service.d/20.conf", "[Service]\nExecStart=/masked\n")
    drop_in = f"[Service]\nExecStart=\nExecStart=/usr/bin/containerd -c {OTHER}\n"
    place.write(f"{ETC}/containerd.service.d/20.conf", drop_in)
    place.write(f"{LIB}/service.d/10.conf", "[Service]\nEnvironment=C=3\n")
    place.write("/etc/systemd/system.conf.d/a.conf", '[Manager]\nDefaultEnvironment="D=4 5" A=0\n')
    found = Unit.find(place.node, "containerd", "containerd")
    assert found.arguments == ["-c", OTHER]
    assert found.environment == {"A": "2", "C": "3", "D": "4 5"}


@pytest.mark.parametrize(
    ("client", "name", "command"),
    [
        ("containerd", "containerd", "containerd -c mine.toml"),
        ("docker", "docker", "dockerd --config-file=mine.toml"),
        ("buildkit", "buildkit", "buildkitd --config %u/mine.toml"),
    ],
)
def test_a_relative_file_of_a_unit_is_refused(
    place: Place, client: str, name: str, command: str
) -> None:
    """As on the command line of one that runs."""
    unit(place, f"ExecStart=/usr/bin/{command}", name=name)
    before = place.tree()
    with pytest.raises(ClientError, match=r"--config.* (%u/)?mine\.toml; give the whole path"):
        place.use(client)
    assert place.tree() == before


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("%h/b.toml", "/root/b.toml"),
        ("%E/%p/b.toml", "/etc/buildkit/b.toml"),
        ("/srv/%N.toml", "/srv/buildkit.toml"),
        ("/srv/100%%.toml", "/srv/100%.toml"),
    ],
)
def test_a_specifier_of_systemd_is_what_it_stands_for(place: Place, word: str, path: str) -> None:
    """A home, a folder, the name of the unit."""
    unit(place, f"ExecStart=/usr/bin/buildkitd --config {word}", name="buildkit")
    place.use("buildkit")
    assert PULL in place.read(path)


def test_the_daemon_that_runs_comes_before_its_unit(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been started before the unit was changed, or otherwise."""
    unit(place, f"ExecStart=/usr/bin/buildkitd --config {OTHER}", name="buildkit")
    monkeypatch.setattr(ManagedNode, "processes", lambda _node, _program: {2**22: []})
    place.use("buildkit")
    assert PULL in place.read("/etc/buildkit/buildkitd.toml")
    monkeypatch.undo()
    place.use("buildkit")
    assert PULL in place.read(OTHER)


def test_docker_that_does_not_run_has_the_file_of_its_unit(place: Place) -> None:
    """And what its unit's command line has against us is refused."""
    unit(place, f"ExecStart=/usr/bin/dockerd -H fd:// --config-file {OTHER}", name="docker")
    place.use("docker")
    assert json.loads(place.read(OTHER)) == {"registry-mirrors": [f"https://{PULL}"]}
    unit(place, "ExecStart=/usr/bin/dockerd --registry-mirror https://m", name="docker")
    with pytest.raises(ClientError, match="on its command line; move that mirror"):
        place.use("docker")


@pytest.mark.parametrize("name", ["k3s", "k3s-agent"])
@pytest.mark.parametrize("where", ["arguments", "config", "variable"])
def test_k3s_that_does_not_run_has_the_registries_file_of_its_unit(
    place: Place, name: str, where: str
) -> None:
    """By the command line, or the file of settings that either names."""
    option = {"arguments": f"'--private-registry' '{OTHER}'", "config": "--config /srv/k3s.yaml"}
    unit(place, "ExecStart=/usr/local/bin/k3s \\", f"    server {option.get(where, '')}", name=name)
    place.write("/srv/k3s.yaml", f"private-registry: {OTHER}\n")
    if where == "variable":
        place.write(f"{ETC}/{name}.service.env", "K3S_CONFIG_FILE=/srv/k3s.yaml\n")
    place.use("k3s")
    assert PULL in place.read(OTHER)


@pytest.mark.parametrize("prefix", ["CONTAINERD_", ""])
@pytest.mark.parametrize("path", [f"{ETC}/k3s.service.env", "/etc/rancher/k3s/k3s.env"])
def test_a_proxy_of_k3s_s_containerd_is_passed_by(place: Place, path: str, prefix: str) -> None:
    """A variable that is for the containerd alone hides the one of k3s itself."""
    text = f"{prefix}HTTPS_PROXY='{PROXY}'\n{prefix}NO_PROXY=localhost\n"
    place.write(path, f"{text}NO_PROXY=localhost\n")
    before = place.tree()
    place.use("k3s")
    found = place.read("/etc/k3s/buildset-registry.env")
    assert found == f"{prefix}NO_PROXY=localhost,{DIRECT}\n"
    assert not place.use("k3s")["changed"]
    place.restore()
    assert place.tree() == before


MICROK8S = "/var/snap/microk8s/current/args/containerd-env"


@pytest.mark.parametrize("shared", [True, False])
def test_a_proxy_of_microk8s_is_passed_by(place: Place, shared: bool) -> None:
    """Of its own file, or of that which snapd gives all services; a file without one stays."""
    own = "# of ours\nulimit -n 65536 || true\n" + ("" if shared else f'HTTPS_PROXY="{PROXY}"\n')
    place.write(MICROK8S, own)
    place.write("/etc/environment", f"HTTPS_PROXY={PROXY}\nNO_PROXY=localhost\n" if shared else "")
    before = place.tree()
    place.use("microk8s")
    exceptions = f"localhost,{DIRECT}" if shared else DIRECT
    assert place.read(MICROK8S) == f'{own}NO_PROXY="{exceptions}"\n'
    assert not place.use("microk8s")["changed"]
    place.restore()
    assert place.tree() == before
    place.write("/etc/environment", "")
    place.write(MICROK8S, "ulimit -n 65536 || true\n")
    assert MICROK8S not in place.use("microk8s")["paths"]


def test_a_service_of_openrc_gets_the_variables_by_its_file(place: Place) -> None:
    """A drop-in of systemd would be read by nobody."""
    place.write("/etc/init.d/docker", "#!/sbin/openrc-run\n", 0o755)
    theirs = f'DOCKER_OPTS="--config-file={OTHER}"\nexport HTTPS_PROXY="{PROXY}"'
    place.write("/etc/conf.d/docker", theirs)
    before = place.tree()
    place.use("docker")
    assert PULL in place.read(OTHER)
    path = "/etc/docker/buildset-registry.env"
    assert place.read("/etc/conf.d/docker") == f"{theirs}\nset -a; . {path}; set +a\n"
    assert place.read(path) == f"NO_PROXY={DIRECT}\n"
    assert not (place.root / "etc/systemd").exists()
    assert not place.use("docker")["changed"]
    place.restore()
    assert place.tree() == before


def test_a_user_s_own_daemon_is_given_what_it_needs_by_his_own_unit(users_place: Place) -> None:
    """Without root, below the home; undone with the folders."""
    units = "/home/someone/.config/systemd/user"
    unit(users_place, "ExecStart=/usr/bin/dockerd-rootless.sh", name="docker", folder=units)
    theirs = f'[Service]\nEnvironment="HTTPS_PROXY={PROXY}"\n'
    users_place.write(f"{units}/docker.service.d/proxy.conf", theirs)
    before = users_place.tree()
    users_place.use("docker")
    path = "/home/someone/.config/docker/buildset-registry.env"
    assert users_place.read(path) == f"NO_PROXY={DIRECT}\n"
    drop_in = users_place.read(f"{units}/docker.service.d/zz-buildset-registry.conf")
    assert drop_in == f"[Service]\nEnvironmentFile={path}\n"
    assert not users_place.use("docker")["changed"]
    users_place.restore()
    assert users_place.tree() == before


SYSTEMCTL = (
    '#!/bin/sh\necho "$@" >>{log}\n[ "$1 $2" != "is-active --quiet" ] || [ "$3" = {unit} ]\n'
)
ACTIVE = {
    "docker": ("snap.docker.dockerd", "dockerd"),
    "k3s": ("k3s-agent", "k3s"),
    "rke2": ("rke2-agent", "rke2"),
    "microk8s": ("snap.microk8s.daemon-containerd", "containerd"),
}


@pytest.mark.parametrize("client", ACTIVE)
def test_the_unit_that_the_node_has_is_restarted(
    place: Place, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """Of an agent, or of a snap."""
    name, _program = ACTIVE[client]
    unit(place, "Environment=A=1", name=name, folder=ETC)
    place.write("/etc/environment", f"HTTPS_PROXY={PROXY}\n")
    place.write("/run/systemd/system/empty", "")
    place.write("/bin/systemctl", SYSTEMCTL.format(log=place.root / "asked", unit=name), 0o755)
    monkeypatch.setenv("PATH", str(place.root / "bin"), prepend=":")
    monkeypatch.setattr(ManagedNode, "processes", lambda _node, _program: {2**22: []})
    running(monkeypatch, HTTPS_PROXY=PROXY)
    place.use(client)
    assert f"restart {name}" in place.read("/asked").splitlines()


def test_k3s_with_an_entry_for_every_registry_is_read_where_it_is(place: Place) -> None:
    """A registries.yaml elsewhere is one of k3s's kind as well."""
    unit(place, f"ExecStart=/usr/local/bin/k3s agent --private-registry={OTHER}", name="k3s-agent")
    place.write(OTHER, 'mirrors:\n  "*":\n    endpoint: ["https://m"]\n')
    place.use("k3s")
    found = yaml.safe_load(place.read(OTHER))["mirrors"]["quay.io"]["endpoint"]
    assert found == [f"https://{PULL}", "https://m"]
