# SPDX-License-Identifier: Apache-2.0
"""containerd's folder of hosts.toml files is named where the daemon reads it last, and told so."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_clients.canary import diagnose, run
from buildset_clients.clients import containerd
from buildset_clients.clients.base import PullError
from buildset_clients.errors import ClientError
from buildset_clients.formats import toml as edited
from buildset_clients.node import ManagedNode

from tests.use.places import PULL, Place, make_setup, toml
from tests.use.receiving import Receiving, prove

MAIN, IMPORTED = "/etc/containerd/config.toml", "/etc/containerd/conf.d/10-more.toml"
IMPORTING = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
CRI2 = 'plugins."io.containerd.grpc.v1.cri"'
CRI3 = "plugins.'io.containerd.cri.v1.images'"
FOLDER = "/etc/containerd/certs.d"
NVIDIA = f'[{CRI2}.containerd]\n  default_runtime_name = "nvidia"\n'


def config_path(place: Place, path: str, plugin: str = "io.containerd.grpc.v1.cri") -> str:
    """Tell the folder that a file names."""
    found: Any = toml(place.read(path)).get("plugins", {}).get(plugin, {})
    return str(found.get("registry", {}).get("config_path", ""))


def daemon(place: Place, version: str, dump: str = "") -> None:
    """Put a containerd of a version on the node's PATH, and what it dumps."""
    place.write("/dump", dump)
    script = f'#!/bin/sh\n[ "$1" = --version ] && echo containerd x v{version} && exit\n'
    place.write("/bin/containerd", f"{script}cat {place.root}/dump\n", 0o755)


def running(monkeypatch: pytest.MonkeyPatch, *arguments: list[str]) -> None:
    """Have daemons run that have these arguments."""
    found = {2**22 + number: one for number, one in enumerate(arguments)}
    monkeypatch.setattr(ManagedNode, "processes", lambda _self, _program: found)


def refused(place: Place, *words: str) -> None:
    """Check that the one line has these words, and that nothing is written."""
    before = place.tree()
    with pytest.raises(ClientError) as caught:
        place.use("containerd")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert place.tree() == before


def test_an_imported_table_that_replaces_ours_has_the_folder(place: Place) -> None:
    """As the one that NVIDIA's toolkit writes; and all is undone."""
    main = f'{IMPORTING}[{CRI2}.registry]\n  config_path = "{FOLDER}"\n'
    place.write(MAIN, main)
    place.write(IMPORTED, NVIDIA)
    before = place.tree()
    place.use("containerd")
    assert place.read(MAIN) == main
    assert place.read(IMPORTED).startswith(NVIDIA)
    assert config_path(place, IMPORTED) == FOLDER
    assert not place.use("containerd")["changed"]
    place.restore()
    assert place.tree() == before


def test_a_folder_that_an_imported_file_names_gets_the_files(place: Place) -> None:
    """And nothing has to be written into either of them."""
    text = f'version = 2\n[{CRI2}.registry]\n  config_path = "/etc/containerd/hosts.d"\n'
    place.write(MAIN, IMPORTING)
    place.write(IMPORTED, text)
    place.use("containerd")
    assert (place.read(MAIN), place.read(IMPORTED)) == (IMPORTING, text)
    assert PULL in place.read("/etc/containerd/hosts.d/docker.io/hosts.toml")


@pytest.mark.parametrize("name", ["../conf.d/*.toml", "conf.d/10-more.toml", "*/10*.toml"])
def test_a_relative_import_is_one_of_its_file_s_folder(place: Place, name: str) -> None:
    """So containerd 2 has it; an import of an import is one, too, and a circle has an end."""
    daemon(place, "2.4.2")
    main = MAIN if not name.startswith("..") else "/etc/containerd/conf.d/first.toml"
    place.write(
        MAIN, f'version = 3\nimports = ["{"conf.d/first.toml" if main != MAIN else name}"]\n'
    )
    if main != MAIN:
        place.write(main, f'version = 3\nimports = ["{name}", "../config.toml"]\n')
    place.write(IMPORTED, f"version = 3\n[{CRI3}]\n  snapshotter = 'native'\n")
    place.use("containerd")
    assert config_path(place, IMPORTED, "io.containerd.cri.v1.images") == FOLDER


@pytest.mark.parametrize(
    "text",
    [
        f'version = 2\n[{CRI2}.registry.mirrors."docker.io"]\n  endpoint = ["https://m"]\n',
        f"[{CRI3}.registry.mirrors.'docker.io']\n  endpoint = ['https://m']\n",
        f'[{CRI2}.registry.configs."m".tls]\n  insecure_skip_verify = true\n',
    ],
)
def test_older_settings_in_an_imported_file_are_refused_by_its_name(
    place: Place, text: str
) -> None:
    """Whichever version it names, or implies by its tables."""
    place.write(MAIN, IMPORTING)
    place.write(IMPORTED, text)
    refused(place, IMPORTED, "registry.", "move it to hosts.toml")


def test_the_file_of_the_daemon_s_command_line_is_the_one_that_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the daemon at the usual address: docker and k3s have one each of their own."""
    docker = "/var/run/docker/containerd/containerd.toml"
    place.write(docker, '[grpc]\n  address = "/var/run/docker/containerd/containerd.sock"\n')
    mine = ["--log-level", "debug", "-c", "/etc/other/containerd.toml"]
    k3s = ["-c", "/var/lib/k3s.toml", "-a", "/run/k3s/containerd/containerd.sock"]
    running(monkeypatch, ["--config", docker], k3s, mine)
    place.use("containerd")
    assert config_path(place, "/etc/other/containerd.toml") == FOLDER
    assert not (place.root / MAIN[1:]).exists()
    running(monkeypatch, ["--config", docker], k3s)
    place.use("containerd")
    assert config_path(place, MAIN) == FOLDER
    running(monkeypatch, ["-c", "mine.toml"])
    refused(place, "--config mine.toml", "give the whole path")


def test_several_folders_are_refused_where_no_one_reads_them(place: Place) -> None:
    """The transfer service of containerd 2 takes their list for the name of one."""
    daemon(place, "2.4.2")
    text = f"[{CRI3}.registry]\n  config_path = '{FOLDER}:/etc/docker/certs.d'\n"
    place.write(MAIN, f"version = 3\n{text}")
    refused(place, MAIN, "config_path names several folders", "use_local_image_pull = true")
    place.write(MAIN, f"version = 3\n[{CRI3}]\n  use_local_image_pull = true\n{text}")
    place.use("containerd")
    transfer = toml(place.read(MAIN))["plugins"]["io.containerd.transfer.v1.local"]
    assert transfer == {"config_path": FOLDER}


def test_a_byte_order_mark_stays_before_the_text(place: Place) -> None:
    """Of a file that is edited, and of one that has all already."""
    place.write(MAIN, "\ufeffversion = 2\n")
    place.use("containerd")
    text = place.read(MAIN)
    assert text.startswith("\ufeffversion = 2\n")
    assert text.count("\ufeff") == 1
    mark = "\ufeffa = 1\n".encode()
    assert edited.put(mark, [], "a", 2, MAIN) == "\ufeffa = 2\n".encode()
    assert edited.put(mark, [], "a", 1, MAIN) == mark


CRICTL = """#!/bin/sh
echo "$@" >>{root}/asked
case "$5" in
    version) exit {version} ;;
    pull) {pull} ;;
    inspecti) echo "name@sha256:$(sha256sum <{manifest} | cut -c-64)" ;;
esac
"""
PUBLIC = "echo 'docker.io/buildset-registry/canary: not found' >&2; exit 1"


def crictl(place: Place, registry: Receiving, pull: str = ":", version: int = 0) -> None:
    """Put a crictl on the node's PATH, beside a configured containerd."""
    words = {"root": place.root, "manifest": registry.manifest, "pull": pull, "version": version}
    place.write("/bin/crictl", CRICTL.format(**words), 0o755)


def said(place: Place, registry: Receiving) -> str:
    """Try a CRI that gets the public image; the one line of the error."""
    with pytest.raises(ClientError) as caught:
        prove(place, "containerd", **registry.facts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cri_is_asked_by_crictl_and_forgets(place: Place, registry: Receiving) -> None:
    """At the usual address; without an answer it is not tried."""
    place.use("containerd", **registry.facts)
    crictl(place, registry)
    assert prove(place, "containerd", **registry.facts) == ["crictl"]
    asked = [line.split() for line in place.read("/asked").splitlines()]
    assert {tuple(words[:4]) for words in asked} == {
        ("--runtime-endpoint", USUAL, "--image-endpoint", USUAL)
    }
    names = [words[-1] for words in asked if words[4] == "pull"]
    assert len(names) == len(make_setup().namespaces)
    assert [words[-1] for words in asked if words[4] == "rmi"] == names
    crictl(place, registry, version=1)
    assert prove(place, "containerd", **registry.facts) == []


USUAL = f"unix://{containerd.ADDRESS}"


def test_what_the_daemon_dumps_is_what_cri_has(place: Place, registry: Receiving) -> None:
    """Another folder, or none, whatever its files say: that is named."""
    place.use("containerd", **registry.facts)
    crictl(place, registry, PUBLIC)
    table = f"version = 4\n[{CRI3}.registry]\n  config_path = "
    daemon(place, "2.4.2", f"{table}''\n")
    begin = (
        f"canary: crictl, docker.io: configuration: 127.0.0.1:{registry.facts['port']} is not its"
    )
    assert f"{begin} mirror, containerd config dump of {MAIN}, without config_path, has none" in (
        said(place, registry)
    )
    daemon(place, "2.4.2", f"{table}'/srv/hosts.d'\n")
    assert f"{begin} mirror, /srv/hosts.d/docker.io/hosts.toml has none" in said(place, registry)
    daemon(place, "2.4.2", f"{table}'{FOLDER}'\n")
    assert "fallback: it asked docker.io itself, though" in said(place, registry)


def test_cri_that_was_started_before_its_files_is_to_be_restarted(
    place: Place, registry: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before one that its file imports."""
    place.write(MAIN, IMPORTING)
    place.write(IMPORTED, NVIDIA)
    place.use("containerd", **registry.facts)
    crictl(place, registry, PUBLIC)
    begun = (place.root / IMPORTED[1:]).stat().st_mtime - 60
    monkeypatch.setattr(ManagedNode, "started", lambda _self, _program: begun)
    message = said(place, registry)
    assert "configuration: containerd was started before /etc/containerd/con" in message
    assert "buildset_registry_restart_commands.containerd" in message


def test_a_folder_of_the_other_spelling_is_where_cri_looks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that somebody makes afterwards is in the way, and is named."""
    place.use("containerd")
    path = f"{FOLDER}/registry.example.com_5000_/hosts.toml"
    place.write(path, "")
    monkeypatch.setattr(containerd.Ctr, "run", lambda *_words, **_more: b"")
    place.write("/bin/ctr", "#!/bin/sh\n", 0o755)
    (tool,) = run.tools(place.node, make_setup(), ["containerd"])
    namespace = make_setup().namespaces[2]
    message = diagnose.explain(tool, make_setup(), namespace, PullError("not found"))
    assert f"is not its mirror, {path} has none" in message
