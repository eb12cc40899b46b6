# SPDX-License-Identifier: Apache-2.0
"""Values that look like a secret are not shown, of whatever format the file is."""

from __future__ import annotations

import json

import pytest
from buildset_clients.masking import MASK, mask

from tests.use.places import Place

SECRET = "S3cr3t"
TEXTS = {
    "JSON": '{"splunk-token": "S3cr3t", "bip": "shown"}',
    "JSON on lines": '{\n  "auth":\n    "S3cr3t",\n  "bip": "shown"\n}',
    "JSON below": '{"auth": {"a": ["x", {"b": "S3cr3t"}]}, "bip": "shown"}',
    "JSON with quotes": '{"password": "a\\"S3cr3t\\\\", "bip": "shown"}',
    "JSON words": '{"exec": ["--password", "S3cr3t", "--token=S3cr3t"], "bip": "shown"}',
    "variables": '{"env": ["HTTP_PASSWORD=S3cr3t", "shown=1"]}',
    "TOML": '[x]\npassword = "S3cr3t"\nshown = 1\n',
    "TOML literal": "identitytoken='S3cr3t'\nshown = 1\n",
    "TOML lines": 'secret = """\nS3cr3t\n"""\nshown = 1\n',
    "TOML list": 'authorization = [\n  "Basic S3cr3t",\n]\nshown = 1\n',
    "TOML table": '[plugins."x".auth]\n  anything = "S3cr3t"\n[shown]\n',
    "TOML dotted": 'configs."r".auth.password = "S3cr3t"\nshown = 1\n',
    "YAML": "configs:\n  r:\n    auth:\n      x: S3cr3t\n    shown: 1\n",
    "YAML block": "password: |\n  S3cr3t\n  S3cr3t\nshown: 1\n",
    "YAML flow": "auth: {x: S3cr3t, y: [S3cr3t]}\nshown: 1\n",
    "YAML list": "tokens:\n- S3cr3t\n- S3cr3t\nshown: 1\n",
    "YAML again": "password: &p S3cr3t\nother: S3cr3t\nshown: 1\n",
    "a number": '{\n"password": 123456,\n"token": true\n}',
    "URL": '{"proxy": "http://me:S3cr3t@proxy:1/", "x": "shown"}',
    "URL with signs": "proxy = http://me:S3c/r3t@S3cr3t@shown:1/",
    "URL, token": "https://S3cr3t@shown/x",
    "header": "X: Bearer S3cr3t\nshown\n",
    "broken": '{"password": "S3cr3t\n',
    "comment": "# password: S3cr3t\nshown = 1\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_secret_is_masked_and_the_rest_is_shown(text: str) -> None:
    """In JSON, TOML, YAML, a URL, a comment or a file that is broken."""
    found = mask(text)
    assert SECRET not in found
    assert MASK in found
    assert ("shown" in found) == ("shown" in text)


PLAIN = '{\n  "bip": "192.0.2.1/24",\n  "registry-mirrors": ["https://m:5000/a@sha256:00"]\n}\n'


def test_text_without_secrets_stays() -> None:
    """Digests are no logins."""
    assert mask(PLAIN) == PLAIN


FILES = {
    "/etc/docker/daemon.json": '{"log-opts": {"splunk-token": "S3cr3t"}, "bip": "192.0.2.1/24"}',
    "/etc/containerd/config.toml": (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth]\npassword = "S3cr3t"\n'
    ),
    "/etc/buildkit/buildkitd.toml": '[registry."m"]\n  mirrors = ["me:S3cr3t@m"] # token: S3cr3t\n',
}


@pytest.mark.parametrize("name", FILES)
def test_difference_shows_no_secret_of_others(place: Place, name: str) -> None:
    """Neither of what is written nor of what is undone; the file keeps it."""
    place.write(name, FILES[name])
    told = json.dumps([place.use(), place.restore()])
    assert name in told
    assert SECRET not in told.replace("me:S3cr3t@m", "")
    assert place.read(name) == FILES[name]
