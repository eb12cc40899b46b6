# SPDX-License-Identifier: Apache-2.0
"""registries.conf as people have it: our mirror is first in what the library makes of all files.

The table is worked out here by the rules of containers-registries.conf(5) alone, over the files
that the role has left, as podman and skopeo do.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.clients.registries import seen
from buildset_clients.errors import ClientError
from buildset_clients.formats.registries_conf import best, in_effect, match
from buildset_clients.node import Account, ManagedNode
from buildset_clients.registry import Namespace

from tests.use.places import PULL, Place, make_setup, toml

SYSTEM, HOME = "/etc/containers", "/root/.config/containers"
OURS = "999-buildset-registry.conf"
MIRROR = '[[registry]]\nlocation = "{0}"\n[[registry.mirror]]\nlocation = "mirror.example.org"\n'
HUB = MIRROR.format("docker.io")


def table(place: Place, home: str = HOME) -> dict[str, dict[str, Any]]:
    """Return the entries by prefix that a user's tools go by."""
    files = [place.root / f"{home}/registries.conf"[1:]]
    folders = [home]
    if not files[0].exists():
        files, folders = [place.root / f"{SYSTEM}/registries.conf"[1:]], [SYSTEM, home]
    for folder in folders:
        files += sorted((place.root / f"{folder}/registries.conf.d"[1:]).glob("*.conf"))
    found = [toml(file.read_text()) for file in files if file.exists()]
    entries = [one for document in found for one in document.get("registry", [])]
    return {one.get("prefix") or one["location"]: one for one in entries}


def mirrors(place: Place, prefix: str, home: str = HOME) -> list[str]:
    """Return the mirrors of a prefix in their order."""
    return [one["location"] for one in table(place, home)[prefix]["mirror"]]


def add_user(place: Place, name: str = "zuul") -> Account:
    """Give a node one more user, who is the tests' own for the system."""
    account = Account(name, os.geteuid(), os.getegid(), f"/home/{name}")
    (place.root / f"home/{name}").mkdir(parents=True)
    place.node = ManagedNode(
        place.root, (*place.node.accounts, account), place.node.is_root, place.node.path
    )
    return account


@pytest.mark.parametrize(
    "name",
    ["000-a.conf", "999-z.conf", "docker-mirror.conf", "mirror.conf", "zzz-z.conf", "é.conf"],
)
def test_our_drop_in_comes_last_whatever_theirs_is_called(place: Place, name: str) -> None:
    """It repeats the other's mirror; a second run changes nothing, and undo leaves theirs."""
    place.write(f"{SYSTEM}/registries.conf.d/{name}", HUB)
    before = place.tree()
    place.use("containers")
    assert mirrors(place, "docker.io") == [f"{PULL}/docker.io", "mirror.example.org"]
    assert not place.use("containers")["changed"]
    place.restore()
    assert place.tree() == before


def test_a_drop_in_that_says_nothing_of_ours_does_not_change_the_name(place: Place) -> None:
    """Distributions have short names there, and companies their own registry."""
    place.write(f"{SYSTEM}/registries.conf.d/shortnames.conf", '[aliases]\n"a" = "quay.io/a"\n')
    place.write(f"{SYSTEM}/registries.conf.d/own.conf", MIRROR.format("corp.example.com"))
    place.use("containers")
    assert (place.root / f"{SYSTEM}/registries.conf.d/{OURS}"[1:]).exists()


def test_a_name_that_is_no_longer_needed_is_taken_back(place: Place) -> None:
    """The next run goes by the files that there are then."""
    theirs = place.write(f"{SYSTEM}/registries.conf.d/mirror.conf", HUB)
    place.use("containers")
    theirs.unlink()
    place.use("containers")
    assert [path.name for path in theirs.parent.iterdir()] == [OURS]


def test_a_later_list_for_short_names_comes_before_ours(place: Place) -> None:
    """The variable of the role says where to look."""
    text = 'unqualified-search-registries = ["quay.io"]\n'
    place.write(f"{SYSTEM}/registries.conf.d/search.conf", text)
    place.use("containers")
    last = max((place.root / f"{SYSTEM}/registries.conf.d"[1:]).iterdir())
    assert toml(last.read_text())["unqualified-search-registries"] == ["docker.io"]


def test_a_longer_prefix_in_a_later_file_has_our_mirror(place: Place) -> None:
    """With the rest of the name."""
    place.write(f"{SYSTEM}/registries.conf.d/team.conf", MIRROR.format("quay.io/team"))
    place.use("containers")
    assert mirrors(place, "quay.io/team") == [f"{PULL}/quay.io/team", "mirror.example.org"]
    assert mirrors(place, "quay.io") == [f"{PULL}/quay.io"]


@pytest.mark.parametrize("name", ["registries.conf", "registries.conf.d/10-hub.conf"])
def test_root_s_own_files_do_not_hide_ours(place: Place, name: str) -> None:
    """They stand in for the system's, or come after them."""
    place.write(f"{HOME}/{name}", HUB)
    before = place.tree()
    place.use("containers")
    assert mirrors(place, "docker.io") == [f"{PULL}/docker.io", "mirror.example.org"]
    assert mirrors(place, "quay.io") == [f"{PULL}/quay.io"]
    assert not place.use("containers")["changed"]
    place.restore()
    assert place.tree() == before


@pytest.mark.parametrize("name", ["registries.conf", "registries.conf.d/zz.conf"])
def test_the_users_of_the_role_have_ours_beside_their_own_files(place: Place, name: str) -> None:
    """Each in his own folder; who has no files gets none."""
    user = add_user(place)
    home = f"{user.home}/.config/containers"
    place.write(f"{home}/{name}", HUB)
    place.use("containers")
    assert mirrors(place, "docker.io", home) == [f"{PULL}/docker.io", "mirror.example.org"]
    assert not (place.root / f"{HOME}/registries.conf.d"[1:]).exists()


def test_a_user_s_own_main_file_hides_the_settings_of_the_system(users_place: Place) -> None:
    """What the system's drop-ins say is no part of what he reads, and is not repeated."""
    home = "/home/someone/.config/containers"
    users_place.write(f"{home}/registries.conf", "")
    users_place.write(f"{SYSTEM}/registries.conf.d/hub.conf", HUB)
    users_place.use("containers")
    assert mirrors(users_place, "docker.io", home) == [f"{PULL}/docker.io"]


def test_without_a_main_file_a_user_s_drop_in_repeats_the_system_s(users_place: Place) -> None:
    """He reads those of both."""
    home = "/home/someone/.config/containers"
    users_place.write(f"{SYSTEM}/registries.conf.d/hub.conf", HUB)
    users_place.use("containers")
    assert mirrors(users_place, "docker.io", home)[1:] == ["mirror.example.org"]


@pytest.mark.parametrize("variable", ["CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"])
def test_the_file_that_the_environment_names_is_repeated(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It stands in for the main file, and the drop-ins are read all the same."""
    place.write("/srv/registries.conf", HUB)
    monkeypatch.setenv(variable, "/srv/registries.conf")
    place.use("containers")
    assert mirrors(place, "docker.io") == [f"{PULL}/docker.io", "mirror.example.org"]


def test_mirrors_for_digests_stay_so_and_ours_serves_tags(place: Place) -> None:
    """The library refuses the setting of the whole entry beside that of a mirror."""
    text = HUB.replace("[[registry.mirror]]", "mirror-by-digest-only = true\n[[registry.mirror]]")
    place.write(f"{SYSTEM}/registries.conf", text)
    place.use("containers")
    entry = table(place)["docker.io"]
    theirs = {"location": "mirror.example.org", "pull-from-mirror": "digest-only"}
    assert entry["mirror"] == [{"location": f"{PULL}/docker.io"}, theirs]
    assert "mirror-by-digest-only" not in entry


def test_a_podman_that_has_no_rule_for_one_mirror_is_refused(place: Place) -> None:
    """It would ask the mirror for tags as well."""
    text = HUB.replace("[[registry.mirror]]", "mirror-by-digest-only = true\n[[registry.mirror]]")
    place.write(f"{SYSTEM}/registries.conf", text)
    place.write("/bin/podman", "#!/bin/sh\necho podman version 3.4.4\n", 0o755)
    words = r"registries.conf: mirror-by-digest-only of docker.io .* podman >= 4.2"
    with pytest.raises(ClientError, match=words):
        place.use("containers")


def test_of_one_file_the_first_entry_for_a_prefix_counts(place: Place) -> None:
    """Of several files it is the last one."""
    place.write(f"{SYSTEM}/registries.conf", HUB + HUB.replace("mirror.example.org", "second"))
    place.use("containers")
    assert mirrors(place, "docker.io") == [f"{PULL}/docker.io", "mirror.example.org"]


def test_a_wildcard_s_settings_are_those_of_its_registries(place: Place) -> None:
    """Our entry is the longer one, and would hide them; a port comes after no path."""
    text = '[[registry]]\nprefix = "*.example.com"\ninsecure = true\n'
    mirror = '[[registry.mirror]]\nlocation = "m.example.org"\n'
    mirror += '[[registry.mirror]]\nlocation = "m.example.org/all"\n'
    place.write(f"{SYSTEM}/registries.conf.d/wild.conf", text + mirror)
    place.use("containers")
    entry = table(place)["registry.example.com:5000"]
    assert entry["insecure"] is True
    assert entry["location"] == "registry.example.com:5000"
    ours = f"{PULL}/registry.example.com__5000"
    assert [one["location"] for one in entry["mirror"]] == [ours, "m.example.org:5000"]


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("r.example.org", "r.example.org:5000"),
        ("r.example.org:80", "registry.example.com:5000"),
        ("r.example.org/x", "registry.example.com:5000"),
    ],
)
def test_an_entry_for_a_name_is_one_for_the_name_with_a_port(
    place: Place, location: str, kept: str
) -> None:
    """The library puts the port after its location, and pulls nothing where that is no name."""
    text = MIRROR.format(location).replace(
        "location", 'prefix = "registry.example.com"\nlocation', 1
    )
    place.write(f"{SYSTEM}/registries.conf", text)
    place.use("containers")
    assert table(place)["registry.example.com:5000"]["location"] == kept
    theirs = mirrors(place, "registry.example.com:5000")[1:]
    assert theirs == ["mirror.example.org:5000"]


def test_ours_for_a_name_stands_for_no_other_port_of_the_host(place: Place) -> None:
    """The registry at another port that the node knows stays as it is; 443 is ours."""
    place.write(f"{SYSTEM}/certs.d/quay.io:8443/ca.crt", "")
    place.write("/root/.docker/config.json", '{"auths": {"quay.io:5000": {}, "r.io:1": {}}}')
    place.write(f"{SYSTEM}/registries.conf", MIRROR.format("quay.io"))
    place.use("containers")
    found = table(place)
    ours = [f"{PULL}/quay.io", "mirror.example.org"]
    assert mirrors(place, "quay.io:443") == mirrors(place, "quay.io") == ours
    for port in ("5000", "8443"):
        assert found[f"quay.io:{port}"]["location"] == f"quay.io:{port}"
        assert mirrors(place, f"quay.io:{port}") == [f"mirror.example.org:{port}"]
    assert "r.io:1" not in found
    assert not place.use("containers")["changed"]


def test_a_shorter_prefix_is_followed_as_the_library_does(place: Place) -> None:
    """The rest of the name goes to its location and its mirrors."""
    text = MIRROR.format("r.example.org/hub").replace(
        "location", 'prefix = "docker.io"\nlocation', 1
    )
    place.write(f"{SYSTEM}/registries.conf", text)
    place.use("containers")
    known = in_effect(seen(place.node).entries)
    found = best(known, "docker.io/library")
    assert found is not None
    longer = found.at("docker.io/library")
    assert longer.location == "r.example.org/hub/library"
    assert longer.addresses[0] == f"{PULL}/docker.io/library"


def test_the_first_version_s_settings_stay(place: Place) -> None:
    """Registries that are insecure or blocked are so by lists."""
    text = '[registries.search]\nregistries = ["quay.io"]\n[registries.insecure]\n'
    place.write(f"{SYSTEM}/registries.conf", f'{text}registries = ["quay.io"]\n')
    place.use("containers")
    assert table_of_ours(place)["quay.io"]["insecure"] is True


def table_of_ours(place: Place) -> dict[str, Any]:
    """Read our drop-in of the system; the entries by prefix."""
    found = toml(place.read(f"{SYSTEM}/registries.conf.d/{OURS}"))
    return {one["prefix"]: one for one in found["registry"]}


REFUSED = {
    "a table of mirrors": (
        '[[registry]]\nlocation = "a"\n[registry.mirror]\nlocation = "m"\n',
        "line 3",
    ),
    "a mirror without a place": (
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\n',
        "mirror of a",
    ),
    "nothing": ("[[registry]]\ninsecure = true\n", "no location"),
    "a date": ('[[registry]]\nlocation = "a"\nsince = 2020-01-01\n', "since of a registry"),
    "a word for a list": ('[registries.insecure]\nregistries = "a"\n', "registries.insecure"),
    "two rules": (
        '[[registry]]\nprefix = "docker.io"\nlocation = "quay.io"\ninsecure = true\n',
        "insecure of quay.io",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_followed_is_named(place: Place, name: str) -> None:
    """In one line, and nothing is written."""
    text, words = REFUSED[name]
    place.write(f"{SYSTEM}/registries.conf", text)
    before = place.tree()
    with pytest.raises(ClientError, match=words) as caught:
        place.use("containers")
    assert f"{SYSTEM}/registries.conf" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert place.tree() == before


def test_a_wildcard_as_long_as_a_name_is_refused(place: Place) -> None:
    """The library takes the first of two as long, which is the wildcard."""
    place.write(f"{SYSTEM}/registries.conf", '[[registry]]\nprefix = "*.uay.io"\ninsecure = true\n')
    place.use("containers")
    place.write(f"{SYSTEM}/registries.conf", '[[registry]]\nprefix = "*.y.io"\ninsecure = true\n')
    setup = replace(make_setup(), namespaces=(Namespace("x.y.io", "https://x.y.io"),))
    with pytest.raises(ClientError, match=r"registries.conf: \*.y.io is taken before x.y.io"):
        main.use(main.Order(clients=["containers"]), setup, place.node)


def test_a_folder_of_drop_ins_that_is_a_link_is_refused(place: Place, tmp_path: Path) -> None:
    """The library does not follow it."""
    (place.root / SYSTEM[1:]).mkdir()
    (place.root / f"{SYSTEM}/registries.conf.d"[1:]).symlink_to(tmp_path)
    with pytest.raises(ClientError, match=r"registries.conf.d is a link"):
        place.use("containers")


@pytest.mark.parametrize(
    ("prefix", "name", "length"),
    [
        ("quay.io", "quay.io/org/app", 7),
        ("quay.io", "quay.ion/org/app", -1),
        ("quay.io/org", "quay.io/org:tag", 11),
        ("quay.io", "quay.io:5000/app", 7),
        ("quay.io/org/app", "quay.io/org", -1),
        ("*.io", "quay.io/org", 7),
        ("*.io", "io/org", -1),
        ("*.io", "quay.ion/org", -1),
        ("*.io", "localhost/a.io", -1),
        ("*.a.io", "x.y.a.io", 8),
    ],
)
def test_a_prefix_matches_as_in_the_library(prefix: str, name: str, length: int) -> None:
    """At the end of a word only; a wildcard is for hosts."""
    assert match(prefix, name) == length
