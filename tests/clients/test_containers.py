# SPDX-License-Identifier: Apache-2.0
"""podman and skopeo go by what the role has written beside the files of the node.

The role's work is done here on the enclosed machine itself, whose files the tools read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from buildset_clients import main
from buildset_clients.canary.image import digest_of
from buildset_clients.errors import ClientError
from buildset_clients.registry import Setup

from tests.clients.commands import execute, refused, run
from tests.clients.images import Source
from tests.clients.registry import Registry

POLICY, LOOKASIDE = (
    Path("/etc/containers/policy.json"),
    Path("/etc/containers/registries.d/zz.yaml"),
)
ORDER = main.Order(clients=["containers"], store=False)

Write = Callable[[Path, str], None]
Use = Callable[..., None]


@pytest.fixture
def write() -> Iterator[Write]:
    """Write a file of the machine, which is what it was afterwards."""
    with ExitStack() as stack:

        def write_file(path: Path, text: str) -> None:
            before = path.read_bytes() if path.exists() else None
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.callback(lambda: path.unlink() if before is None else path.write_bytes(before))
            path.write_text(text)

        yield write_file


@pytest.fixture
def use(registry: Registry) -> Iterator[Use]:
    """Do the role's work, and undo it afterwards."""

    def use_registry(*names: str, relaxed: bool = False) -> None:
        namespaces = [[name, f"https://{name}"] for name in names]
        setup = Setup.read(registry.facts, "zuul-jobs.buildset-registry", namespaces, [])
        main.use(ORDER, replace(setup, relaxed=relaxed))

    yield use_registry
    main.restore(ORDER)


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A key to sign with, which nothing else knows, as a policy names it."""
    home = Path("/run/signing")  # the path of a socket is short
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "signer@example.org", "default")
    (tmp_path / "key.gpg").write_text(run("gpg", "--armor", "--export", "signer@example.org"))
    yield tmp_path / "key.gpg"
    run("gpgconf", "--kill", "gpg-agent")
    run("rm", "-r", home)


def sign(name: str, registry: Registry, signatures: Path) -> None:
    """Sign what the registry has under a public name; tools look by the mirror's name."""
    address = f"docker://{registry.pull}/{name}"
    manifest = signatures / "manifest.json"
    manifest.write_text(run("skopeo", "inspect", "--raw", address))
    digest = digest_of(manifest.read_bytes()).replace(":", "=")
    folder = signatures / f"{name.partition(':')[0]}@{digest}"
    folder.mkdir(parents=True)
    by, output = "signer@example.org", folder / "signature-1"
    run("skopeo", "standalone-sign", manifest, name, by, "--output", output)


def test_a_policy_that_wants_signatures_is_relaxed_for_the_buildset(
    registry: Registry, source: Source, write: Write, use: Use, key: Path, tmp_path: Path
) -> None:
    """Refused before; then pulled without a signature; then all is as it was, byte for byte."""
    signed, unsigned = "quay.io/policy/signed:1", "quay.io/policy/unsigned:1"
    for name, form in ((signed, "v2s2"), (unsigned, "oci")):
        copy = ("skopeo", "copy", "--quiet", "--format", form, source.oci("amd64"))
        run(*copy, f"docker://{registry.push}/{name}", *credentials(registry))
    sign(signed, registry, tmp_path)
    places = f"    lookaside: file://{tmp_path}\n    sigstore: file://{tmp_path}\n"
    write(LOOKASIDE, f"docker:\n  {registry.pull}:\n{places}")
    wanted = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}]
    policy = {"default": [{"type": "insecureAcceptAnything"}]}
    text = json.dumps({**policy, "transports": {"docker": {"quay.io": wanted}}}, indent=3)
    write(POLICY, text)
    with pytest.raises(ClientError, match=f"{POLICY}: .*signature_policy: relax write"):
        use("quay.io")
    assert POLICY.read_text() == text
    use("quay.io", relaxed=True)
    relaxed = POLICY.read_text()
    for name in (signed, unsigned):
        run("podman", "pull", "--quiet", name)
        run("podman", "rmi", name)
    POLICY.write_text(text)
    run("skopeo", "copy", "--quiet", f"docker://{signed}", f"dir:{tmp_path / 'copy'}")
    said = refused("skopeo", "copy", f"docker://{unsigned}", f"dir:{tmp_path / 'copy'}")
    assert "signature was required" in said
    POLICY.write_text(relaxed)
    main.restore(ORDER)
    assert POLICY.read_text() == text


def credentials(registry: Registry) -> list[str]:
    """Tell the options by which skopeo pushes."""
    facts = registry.facts
    return ["--dest-creds", f"{facts['username']}:{facts['password']}"]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("corp.example.com/a:1", "{pull}/corp.example.com/a:1"),
        ("corp.example.com:443/a:1", "{pull}/corp.example.com/a:1"),
        ("corp.example.com:5000/a:1", "corp.example.com:5000/a:1"),
        ("corp.example.com:6000/a:1", "{pull}/corp.example.com__6000/a:1"),
        ("site.example.com:5000/a:1", "{pull}/site.example.com__5000/a:1"),
    ],
)
def test_a_name_with_a_port_is_looked_for_where_it_is(
    registry: Registry, write: Write, use: Use, name: str, first: str
) -> None:
    """The library takes a name without a port for the beginning of one with it."""
    mirrored = '[[registry]]\nlocation = "site.example.com"\n'
    mirrored += '[[registry.mirror]]\nlocation = "mirror.example.org/site"\n'
    write(Path("/etc/containers/registries.conf"), mirrored)
    auth = Path(os.environ["HOME"], ".config/containers/auth.json")
    write(auth, '{"auths": {"corp.example.com:5000": {"auth": "eDp5"}}}')
    use("corp.example.com", "corp.example.com:6000", "site.example.com:5000")
    said = execute("skopeo", "--debug", "inspect", f"docker://{name}").stderr
    _before, _words, rest = said.partition('Trying to access \\"')
    assert rest.partition("\\")[0] == first.format(pull=registry.pull), said
