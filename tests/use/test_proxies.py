# SPDX-License-Identifier: Apache-2.0
"""A proxy of the node's environment is passed by for the registry, or is what is blamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from buildset_clients import proxies
from buildset_clients.canary import diagnose, run
from buildset_clients.clients.base import PullError
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode

from tests.use.places import PULL, Place, make_setup
from tests.use.receiving import Receiving, prove

HOST = "198.51.100.11"
#: All names that the registry has.
DIRECT = ",".join(proxies.hosts(make_setup().registry))
PROXY = "http://me:my-own@proxy.example.com:3128"
SETTINGS = "/etc/docker/daemon.json"
#: The daemons, each with its client and its unit.
DAEMONS = {
    "dockerd": ("docker", "docker"),
    "containerd": ("containerd", "containerd"),
    "buildkitd": ("buildkit", "buildkit"),
    "crio": ("containers", "crio"),
    "k3s": ("k3s", "k3s"),
    "rke2": ("rke2", "rke2-server"),
}


def drop_in(unit: str) -> str:
    """Tell the name of the role's drop-in of a unit."""
    return f"/etc/systemd/system/{unit}.service.d/zz-buildset-registry.conf"


def running(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Have every daemon run with an environment."""
    monkeypatch.setattr(ManagedNode, "environment", lambda _node, _program: variables)


@pytest.mark.parametrize(
    ("exceptions", "address", "direct"),
    [
        ("", PULL, False),
        ("*", PULL, True),
        ("localhost, 198.51.100.11", PULL, True),
        ("198.51.100.0/24", PULL, True),
        ("198.51.101.0/24,nonsense/99", PULL, False),
        ("198.51.100.11:5000", PULL, True),
        ("198.51.100.11:5001", PULL, False),
        ("198.51.100", PULL, False),
        ("", "127.0.0.1:5000", True),
        ("", "localhost:5000", True),
        ("example.com", "registry.example.com:5000", True),
        ("EXAMPLE.com", "Registry.example.com:5000", True),
        (".example.com", "registry.example.com:5000", True),
        ("*.example.com", "registry.example.com:5000", True),
        (".example.com", "example.com:5000", False),
        ("ample.com", "registry.example.com:5000", False),
        ("example.com:5000", "registry.example.com:5000", True),
        ("2001:db8::/32", PULL, False),
        ("2001:db8::1", "zuul-jobs.buildset-registry:5000", False),
    ],
)
def test_no_proxy_is_read_as_the_clients_read_it(
    exceptions: str, address: str, direct: bool
) -> None:
    """By names with their subdomains, addresses, networks and ports."""
    assert proxies.excepted(exceptions, address) is direct


@pytest.mark.parametrize("program", DAEMONS)
def test_the_registry_joins_what_a_daemon_asks_without_its_proxy(
    place: Place, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Its unit's other exceptions stay; a second run changes nothing, and undo all of it."""
    before = place.tree()
    client, unit = DAEMONS[program]
    running(monkeypatch, https_proxy=PROXY, no_proxy="localhost,.example.org")
    place.use(client)
    path = f"/etc/{client}/buildset-registry.env"
    assert place.read(path) == f"NO_PROXY=localhost,.example.org,{DIRECT}\n"
    assert f"EnvironmentFile={path}\n" in place.read(drop_in(unit))
    running(monkeypatch, https_proxy=PROXY, NO_PROXY=f"localhost,.example.org,{DIRECT}")
    assert not place.use(client)["changed"]
    place.restore()
    assert place.tree() == before


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HTTP_PROXY": PROXY},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": f"198.51.100.0/24,{DIRECT}"},
        {"NO_PROXY": "localhost"},
    ],
    ids=["none", "of plain HTTP", "excepted already", "no proxy"],
)
def test_a_daemon_without_such_a_proxy_keeps_its_environment(
    place: Place, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """It is not restarted for it either."""
    running(monkeypatch, **variables)
    told = place.use("docker")
    assert SETTINGS in told["paths"]
    assert not [path for path in told["paths"] if path.endswith((".env", ".conf"))]


UNIT = "/lib/systemd/system/docker.service"
UNITS = {
    "its own line": {UNIT: f"[Service]\nEnvironment=A=1 'HTTPS_PROXY={PROXY}'\n"},
    "a drop-in": {
        "/etc/systemd/system/docker.service.d/http-proxy.conf": "[Service]\n"
        f'Environment="HTTPS_PROXY={PROXY}"\nEnvironment="NO_PROXY=localhost"\n'
    },
    "a file that it names": {
        UNIT: "[Service]\nEnvironmentFile=-/etc/default/docker\n",
        "/etc/default/docker": f"# of ours\nexport HTTPS_PROXY='{PROXY}'\n",
    },
}


@pytest.mark.parametrize("written", UNITS)
def test_a_daemon_that_does_not_run_has_what_its_unit_gives_it(place: Place, written: str) -> None:
    """It may be started by its socket at the first pull."""
    for path, text in UNITS[written].items():
        place.write(path, text)
    place.use("docker")
    assert place.read("/etc/docker/buildset-registry.env").endswith(f"{DIRECT}\n")


@pytest.mark.parametrize("theirs", [None, "localhost"])
def test_docker_s_own_proxy_is_passed_by_in_its_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, theirs: str | None
) -> None:
    """What the file lacks the environment has; a second run changes nothing, and undo all."""
    running(monkeypatch, NO_PROXY="localhost")
    own: dict[str, Any] = {"https-proxy": PROXY, **({"no-proxy": theirs} if theirs else {})}
    place.write(SETTINGS, json.dumps({"proxies": own}))
    before = place.tree()
    place.use("docker")
    found = json.loads(place.read(SETTINGS))["proxies"]
    assert found == {"https-proxy": PROXY, "no-proxy": f"localhost,{DIRECT}"}
    assert not place.use("docker")["changed"]
    place.restore()
    assert place.tree() == before


def test_a_proxy_of_docker_s_command_line_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before all that could be written; its password is not told."""
    arguments = [f"--https-proxy={PROXY}"]
    monkeypatch.setattr(ManagedNode, "processes", lambda _node, _program: {2**22: arguments})
    before = place.tree()
    with pytest.raises(ClientError, match=f"command line.*add {HOST} to NO_PROXY") as caught:
        place.use("docker")
    assert "my-own" not in str(caught.value)
    assert place.tree() == before
    arguments.append(f"--no-proxy={HOST}")
    place.use("docker")


def test_an_ordinary_user_s_daemon_is_left_alone(
    users_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unit is not in the system's folder; the canary tells."""
    running(monkeypatch, HTTPS_PROXY=PROXY)
    told = users_place.use("buildkit")
    assert not [path for path in told["paths"] if path.startswith("/etc")]


def blamed(place: Place, client: str, program: str, output: str) -> str:
    """Have a client fail, and tell what is said of it."""
    place.use(client)
    place.write(f"/bin/{program}", f"#!/bin/sh\n{output}\n", 0o755)
    setup = make_setup()
    (tool,) = run.tools(place.node, setup, [client])
    return diagnose.explain(tool, setup, setup.namespaces[0], PullError("manifest unknown"))


def test_the_shell_s_proxy_is_blamed_with_the_file_that_sets_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is one that a login reads, or the task's own environment is named."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "localhost")
    said = blamed(place, "containers", "skopeo", "exit 1")
    wanted = f"has proxy.example.com:3128 asked for {PULL}; add {HOST} to NO_PROXY there"
    assert f"docker.io: proxy: HTTPS_PROXY of the environment of this task {wanted}" in said
    assert "my-own" not in said
    place.write("/etc/environment", f"HTTPS_PROXY={PROXY}\n")
    assert f"proxy: HTTPS_PROXY of /etc/environment {wanted}" in (
        blamed(place, "containers", "skopeo", "exit 1")
    )
    monkeypatch.setenv("NO_PROXY", "198.51.100.0/24")
    assert "proxy:" not in blamed(place, "containers", "skopeo", "exit 1")


@pytest.mark.parametrize("own", [True, False])
def test_the_proxy_of_the_daemon_that_runs_is_blamed(place: Place, own: bool) -> None:
    """docker tells what its daemon has, of its file or its environment."""
    place.write(SETTINGS, json.dumps({"proxies": {"https-proxy": PROXY}} if own else {}))
    output = (
        f'case "$*" in *Mirrors*) echo \'["https://{PULL}"]\' ;; *NoProxy*) '
        'echo \'"http://xxxxx:xxxxx@proxy.example.com:3128" "localhost"\' ;; '
        "*Driver*) echo '[]' ;; *) exit 1 ;; esac"
    )
    said = blamed(place, "docker", "docker", output)
    place_named = f"{SETTINGS}, proxies," if own else "the environment of dockerd"
    assert f"proxy: HTTPS_PROXY of {place_named} has proxy.example.com:3128 asked" in said


def test_buildkit_s_proxy_is_that_of_its_daemon(
    place: Place, registry: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell that has the build made has another environment."""
    monkeypatch.setenv("NO_PROXY", "*")
    place.use(
        "buildkit",
        host="registry.invalid",
        **{key: value for key, value in registry.facts.items() if key != "host"},
    )
    place.write("/bin/buildctl", "#!/bin/sh\n[ $3 = debug ] || exit 1\n", 0o755)
    running(monkeypatch, HTTPS_PROXY=PROXY)
    with pytest.raises(ClientError, match="proxy: HTTPS_PROXY of the environment of buildkitd"):
        prove(place, "buildkit", **{**registry.facts, "host": "registry.invalid"})


FILES = {
    "the user's": "/root/.config/containers/containers.conf",
    "a drop-in of the system's": "/etc/containers/containers.conf.d/proxy.conf",
}


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_podman_s_engine_has_an_environment_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It counts where the shell has none; skopeo does not read it."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    place.write(path, f'[engine]\nenv = ["https_proxy={PROXY}", "NO_PROXY=localhost"]\n')
    assert f" of {path} has " in proxies.of_podman(place.node).fault(PULL)
    assert not proxies.of_task(place.node).fault(PULL)
    monkeypatch.setenv("NO_PROXY", HOST)
    assert not proxies.of_podman(place.node).fault(PULL)


def test_without_the_canary_a_proxy_in_the_way_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tool is refused for it: the proxy may lead to the registry."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.delenv("NO_PROXY", raising=False)
    place.write("/bin/skopeo", "#!/bin/sh\n", 0o755)
    (note,) = place.use("containers")["notes"]
    assert note.startswith("skopeo: proxy: HTTPS_PROXY of the environment of this task")
