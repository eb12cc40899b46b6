# SPDX-License-Identifier: Apache-2.0
"""The files that the role touches are again what they were, and all that is not its own stays."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from buildset_clients import main
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode

from tests.use.places import LOGIN, PULL, Place, make_setup, toml

#: Files as people have them, with comments and a style of their own.
EXISTING = {
    "/etc/docker/daemon.json": '{\n    "bip": "192.0.2.1/24",\n    "registry-mirrors": ["https://m"]}',
    "/root/.docker/config.json": '{"auths": {"quay.io": {"auth": "eDp5"}}, "psFormat": "x"}\n',
    "/root/.config/containers/auth.json": '{"auths": {"quay.io": {"auth": "eDp5"}}}',
    "/etc/containerd/config.toml": '# mine\nversion = 2\n[plugins]\n  [plugins."x"]\na = 1 # b\n',
    "/etc/containerd/certs.d/quay.io/hosts.toml": (
        'server = "https://quay.io"\n# mine\n'
        '[host."https://mirror.example.com"]\n  skip_verify = true\n'
    ),
    "/etc/buildkit/buildkitd.toml": (
        '[worker.oci]\n  gc = true\n[registry."docker.io"]\n  mirrors = [\n    "m", # mine\n  ]\n'
    ),
    "/etc/rancher/k3s/registries.yaml": "# mine\nmirrors:\n  docker.io:\n    endpoint: [https://m]\n",
    "/etc/hosts": "127.0.0.1 localhost",
}


@pytest.fixture
def lived_in(place: Place) -> Place:
    """A node whose clients are configured already."""
    for name, text in EXISTING.items():
        place.write(name, text, 0o600 if "auth" in name else 0o640)
    return place


def test_absent_restores_byte_for_byte(lived_in: Place) -> None:
    """Every file and folder is what it was, and nothing is left."""
    before = lived_in.tree()
    assert lived_in.use(host="2001:db8::1")["changed"]
    assert lived_in.tree() != before
    assert lived_in.restore()["changed"]
    assert lived_in.tree() == before
    assert not lived_in.restore()["changed"]


def test_absent_leaves_an_empty_node_empty(place: Place) -> None:
    """All that was made is gone with its folders."""
    before = place.tree()
    place.use()
    place.restore()
    assert place.tree() == before


def test_a_second_run_changes_nothing(lived_in: Place) -> None:
    """Neither a file nor its time."""
    lived_in.use()
    before = lived_in.tree()
    times = {path: path.stat().st_mtime_ns for path in lived_in.root.rglob("*")}
    assert not lived_in.use()["changed"]
    assert lived_in.tree() == before
    assert {path: path.stat().st_mtime_ns for path in lived_in.root.rglob("*")} == times


def test_check_mode_writes_nothing(lived_in: Place) -> None:
    """It tells the files that would change."""
    before = lived_in.tree()
    told = lived_in.use(dry=True)
    assert told["changed"]
    assert "/etc/docker/daemon.json" in told["paths"]
    assert lived_in.tree() == before


def test_what_there_was_is_kept(lived_in: Place) -> None:
    """Settings, comments and modes of others stay."""
    lived_in.use()
    daemon = json.loads(lived_in.read("/etc/docker/daemon.json"))
    assert daemon == {"bip": "192.0.2.1/24", "registry-mirrors": [f"https://{PULL}", "https://m"]}
    login = json.loads(lived_in.read("/root/.docker/config.json"))
    assert login["auths"]["quay.io"] == {"auth": "eDp5"}
    assert login["psFormat"] == "x"
    assert EXISTING["/etc/containerd/config.toml"] in lived_in.read("/etc/containerd/config.toml")
    buildkit = toml(lived_in.read("/etc/buildkit/buildkitd.toml"))
    assert buildkit["worker"] == {"oci": {"gc": True}}
    assert buildkit["registry"]["docker.io"]["mirrors"] == [PULL, "m"]
    hosts = toml(lived_in.read("/etc/containerd/certs.d/quay.io/hosts.toml"))
    assert list(hosts["host"]) == [f"https://{PULL}", "https://mirror.example.com"]
    mode = (lived_in.root / "etc/docker/daemon.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o640


def test_another_registry_replaces_the_first(lived_in: Place) -> None:
    """Nothing of the first one is left, and what there was before it still comes back."""
    before = lived_in.tree()
    lived_in.use()
    lived_in.use(host="198.51.100.99", push_host="198.51.100.99")
    found = lived_in.tree()
    assert not [name for name, (content, _) in found.items() if PULL in name]
    assert not [name for name, (content, _) in found.items() if PULL.encode() in content]
    lived_in.restore()
    assert lived_in.tree() == before


@pytest.mark.parametrize("again", [False, True])
def test_what_others_change_meanwhile_stays(lived_in: Place, again: bool) -> None:
    """Only our part goes, from JSON and from TOML."""
    lived_in.use()
    daemon = json.loads(lived_in.read("/etc/docker/daemon.json"))
    daemon["debug"] = True
    daemon["registry-mirrors"].append("https://new")
    lived_in.write("/etc/docker/daemon.json", json.dumps(daemon))
    settings = lived_in.read("/etc/containerd/config.toml").replace("a = 1 # b", "a = 2 # b")
    lived_in.write("/etc/containerd/config.toml", settings)
    if again:
        lived_in.use()
        assert f"https://{PULL}" in lived_in.read("/etc/docker/daemon.json")
    lived_in.restore()
    left = json.loads(lived_in.read("/etc/docker/daemon.json"))
    mirrors = ["https://m", "https://new"]
    assert left == {"bip": "192.0.2.1/24", "registry-mirrors": mirrors, "debug": True}
    expected = EXISTING["/etc/containerd/config.toml"].replace("a = 1", "a = 2")
    assert lived_in.read("/etc/containerd/config.toml") == expected


def test_our_own_file_changed_by_others_goes(place: Place) -> None:
    """With a word on it."""
    place.use("containers")
    (name,) = [name for name in place.tree() if name.endswith("999-buildset-registry.conf")]
    place.write(name, "# changed\n")
    notes = place.restore()["notes"]
    assert [note for note in notes if "changed by somebody else" in note]
    assert name not in place.tree()


def encoded(text: str) -> str:
    """Write the content of a file as the role's state has it."""
    return base64.b64encode(text.encode()).decode()


def test_the_state_that_version_0_1_has_written_is_taken_back(place: Place) -> None:
    """The role may be upgraded between its use and its end: the form and the place stay."""
    kept = {"client": "docker", "mode": None, "secret": False, "account": "", "action": ""}
    before, after = '{"bip": "192.0.2.1/24"}', '{"bip": "192.0.2.1/24", "registry-mirrors": ["m"]}'
    daemon, drop_in = "/etc/docker/daemon.json", "/etc/systemd/system/docker.service.d/our.conf"
    merged = {"kind": "json", "before": encoded(before), "after": encoded(after), "mode": 0o640}
    own = {"kind": "own", "before": None, "after": encoded("[Service]\n")}
    folder = place.write(drop_in, "[Service]\n").parent
    place.write(daemon, after)
    state = {"files": {daemon: {**kept, **merged}, drop_in: {**kept, **own}}}
    text = json.dumps({**state, "folders": {str(folder): ""}})
    place.write("/var/lib/buildset-registry-clients/ledger.json", text, 0o600)
    assert sorted(place.restore()["paths"]) == [daemon, drop_in]
    assert place.read(daemon) == before
    assert stat.S_IMODE((place.root / daemon[1:]).stat().st_mode) == 0o640
    assert not folder.exists()
    assert not (place.root / "var/lib/buildset-registry-clients").exists()


def refused(place: Place, name: str, text: str, words: str) -> str:
    """Check that a file of this text is refused by its name, nothing written; return the error."""
    place.write(name, text)
    before = place.tree()
    with pytest.raises(ClientError, match=words) as caught:
        place.use()
    assert name in str(caught.value)
    assert place.tree() == before
    return str(caught.value)


BROKEN = {
    "/etc/docker/daemon.json": ('{\n  "bip": 1,\n}', "line 3"),
    "/root/.docker/config.json": ('{"auths": [', "line 1"),
    "/root/.config/containers/auth.json": ('{"auths":\n\n oops}', "line 3"),
    "/etc/containerd/config.toml": ("version = 2\n[plugins\n", "line 2"),
    "/etc/containerd/certs.d/quay.io/hosts.toml": ("a = 1\n\n= 3\n", "line 3"),
    "/etc/buildkit/buildkitd.toml": ("[registry.]\n", "line 1"),
    "/etc/rancher/k3s/registries.yaml": ("mirrors:\n  a: [\n", "line"),
    "/etc/containers/registries.conf": ("[[registry]]\nlocation=\n", "line 2"),
    "/etc/containers/registries.conf.d/1.conf": ("# one\n[registry.x]\na = 1\n", "line 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_named_and_nothing_is_written(lived_in: Place, name: str) -> None:
    """The error has the file and the line; no other file was written either."""
    assert "\n" not in refused(lived_in, name, *BROKEN[name])


WRONG_KIND = {
    "/etc/docker/daemon.json": ('{"registry-mirrors": [1]}', "registry-mirrors is not a list of"),
    "/root/.docker/config.json": ('{"auths": []}', "auths is not an object"),
    "/root/.config/containers/auth.json": ("[]", "line 1: not a JSON object"),
}


@pytest.mark.parametrize("name", WRONG_KIND)
def test_file_of_another_form_is_named(lived_in: Place, name: str) -> None:
    """A file that can be read but that the client would not take is named with the key."""
    refused(lived_in, name, *WRONG_KIND[name])


CONFIG, AUTH = "/root/.docker/config.json", "/root/.config/containers/auth.json"


def linked(place: Place, name: str, to: str) -> Path:
    """Make a link of a name to another one of the node."""
    path = place.root / name[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(place.root / to[1:], path.parent))
    return path


@pytest.mark.parametrize("to", ["/root/dotfiles/config.json", "/root/not/yet/there"])
def test_link_to_a_file_that_is_not_there_stays(place: Place, to: str) -> None:
    """The file behind it is made, and is gone again, with the credentials in it."""
    path = linked(place, CONFIG, to)
    before = place.tree()
    place.use("docker")
    assert LOGIN in place.read(to)
    assert not place.use("docker")["changed"]
    place.restore()
    assert path.is_symlink()
    assert place.tree() == before


def test_link_that_has_another_end_meanwhile_leaves_no_credentials(place: Place) -> None:
    """Neither behind the old one nor behind the new one."""
    path = linked(place, CONFIG, "/root/one.json")
    place.use("docker")
    path.unlink()
    linked(place, CONFIG, "/root/two.json")
    place.restore()
    assert not (place.root / "root/one.json").exists()
    place.use("docker")
    path.unlink()
    place.use("docker")
    assert not (place.root / "root/two.json").exists()
    place.restore()
    assert not path.exists()


def test_two_names_of_one_file_are_one(place: Place) -> None:
    """By a link of the file, and by one of the folder."""
    place.write("/bin/docker-credential-pass", "#!/bin/sh\n", 0o755)
    place.write(CONFIG, '{"credsStore": "pass"}')
    linked(place, AUTH, CONFIG)
    linked(place, "/etc/docker/certs.d", "/etc/containers/certs.d")
    (place.root / "etc/containers/certs.d").mkdir(parents=True)
    before = place.tree()
    place.use("docker", "containers")
    assert json.loads(place.read(AUTH))["credHelpers"]
    assert not place.use("docker", "containers")["changed"]
    place.restore()
    assert place.tree() == before


def test_hard_link_stays_one(place: Place) -> None:
    """What is written is there by both names, and what was there too."""
    path = place.write(CONFIG, "{}")
    other = place.root / "root/other.json"
    other.hardlink_to(path)
    place.use("docker")
    assert LOGIN in other.read_text()
    place.restore()
    assert path.samefile(other)
    assert other.read_text() == "{}"


def test_attributes_and_rights_stay(place: Place) -> None:
    """As they were, and none of the folder's."""
    path = place.write("/etc/docker/daemon.json", "{}")
    os.setxattr(path, "user.of", b"mine")
    place.use("docker")
    assert os.getxattr(path, "user.of") == b"mine"
    place.restore()
    assert os.listxattr(path) == ["user.of"]


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_umask_does_not_keep_readers_out(place: Place, umask: int) -> None:
    """Folders and files of all are for all, those of a user for him."""
    before, mine = place.tree(), os.umask(umask)
    try:
        place.use()
    finally:
        os.umask(mine)
    for name, (_content, mode) in place.tree().items():
        if name.startswith("etc/") and "hosts.toml" not in name and "registries.yaml" not in name:
            assert mode & 0o044 == 0o044, name
    assert stat.S_IMODE((place.root / "root/.docker").stat().st_mode) == 0o700
    place.restore()
    assert place.tree() == before


@pytest.mark.parametrize("text", ["", " \n", "\n\n"])
def test_file_of_white_space_is_one_again(place: Place, text: str) -> None:
    """Also where somebody has logged in and out meanwhile."""
    place.write(CONFIG, text, 0o600)
    before = place.tree()
    place.use("docker")
    found = json.loads(place.read(CONFIG))
    place.write(CONFIG, json.dumps(found), 0o600)
    place.restore()
    assert place.tree() == before


def test_mode_is_given_back_or_is_somebody_s(place: Place) -> None:
    """A login of others that came meanwhile is not shown to all."""
    path = place.write(CONFIG, "{}", 0o644)
    place.use("docker")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    daemon = place.root / "etc/docker/daemon.json"
    daemon.chmod(0o600)
    place.write(
        daemon.relative_to(place.root).as_posix(), daemon.read_text()[:-2] + ',"a":1}', 0o600
    )
    auth = place.root / AUTH[1:]
    auth.write_text(json.dumps({"auths": {**json.loads(auth.read_text())["auths"], "q": {}}}))
    place.restore()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(daemon.stat().st_mode) == 0o600
    assert json.loads(daemon.read_text()) == {"a": 1}
    assert stat.S_IMODE(auth.stat().st_mode) == 0o600


BROKEN_BY_OTHERS = {CONFIG: "}", "/etc/docker/certs.d/quay.io/hosts.toml": "\n[[[\n"}


@pytest.mark.parametrize("name", BROKEN_BY_OTHERS)
def test_file_that_others_have_broken_keeps_no_credentials(lived_in: Place, name: str) -> None:
    """What is there stays otherwise, with a word on it."""
    lived_in.use("docker")
    ours = lived_in.read(name).replace("capabilities", "capability")
    lived_in.write(name, ours + BROKEN_BY_OTHERS[name])
    notes = lived_in.restore()["notes"]
    assert [note for note in notes if name in note and "less the credentials" in note]
    assert LOGIN not in lived_in.read(name)
    assert BROKEN_BY_OTHERS[name] in lived_in.read(name)


def test_work_of_a_daemon_that_failed_is_done_by_the_next_run(lived_in: Place) -> None:
    """Also where no file changes any more; and by the undoing run after one that failed."""
    failing = main.Order(clients=["k3s"], commands={"k3s": "false"})
    working = main.Order(clients=["k3s"], commands={"k3s": f"touch {lived_in.root}/done"})
    before = lived_in.tree()
    with pytest.raises(ClientError, match="restart k3s failed"):
        main.use(failing, make_setup(), lived_in.node)
    assert not main.use(working, make_setup(), lived_in.node)["changed"]
    (lived_in.root / "done").unlink()
    with pytest.raises(ClientError, match="restart k3s failed"):
        main.restore(failing, lived_in.node)
    main.restore(working, lived_in.node)
    (lived_in.root / "done").unlink()
    assert lived_in.tree() == before


def test_run_without_the_state_of_an_earlier_one_changes_nothing(lived_in: Place) -> None:
    """What is there already is what is wanted."""
    lived_in.use(host="2001:db8::1")
    shutil.rmtree(lived_in.root / "var/lib/buildset-registry-clients")
    lived_in.use(host="2001:db8::1")
    assert not lived_in.use(host="2001:db8::1")["changed"]
    lived_in.use(host="2001:db8::1", password="another")
    assert LOGIN not in lived_in.read("/etc/docker/certs.d/quay.io/hosts.toml")


@pytest.mark.parametrize("state", [None, "state"])
def test_state_of_a_user_leaves_no_folder(
    users_place: Place, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """It is found by a run whose environment says nothing of it, too."""
    before = users_place.tree()
    if state:
        monkeypatch.setenv("XDG_STATE_HOME", f"/home/someone/{state}")
    users_place.use("containers")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    users_place.restore()
    assert users_place.tree() == before


def test_owner_that_cannot_be_kept_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file's own name, and nothing is written."""
    path = place.write(CONFIG, "{}")
    before = place.tree()

    def refuse(*_words: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("buildset_clients.files._keep_owner", refuse)
    with pytest.raises(ClientError, match=r"/root/.docker/config.json: cannot be .* chown"):
        place.use()
    assert place.tree() == before
    assert path.read_text() == "{}"


def test_user_who_is_a_number_has_the_home_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container; without one, the error says what to set."""
    monkeypatch.setattr(os, "geteuid", lambda: 4294967)
    monkeypatch.setenv("HOME", "/srv/home")
    (account,) = ManagedNode.here([]).accounts
    assert (account.name, account.home) == ("4294967", "/srv/home")
    monkeypatch.delenv("HOME")
    with pytest.raises(ClientError, match="set HOME"):
        ManagedNode.here([])
