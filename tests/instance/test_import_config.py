# SPDX-License-Identifier: Apache-2.0
"""Configurations of ``registry:2`` and zuul-registry as people publish them, taken over.

Those in the folder ``imported`` have the shapes of published ones, with other names in them.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import resource
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildset_registry.cli import main
from passlib.hash import bcrypt
from trustme import CA

from tests.ports import free_port

FOLDER = Path(__file__).parent / "imported"
SECRETS = ("hunter2", "hunter3")
#: For each: the status of /v2/, 401 also where pushing alone wants a login; what is said of it.
SERVED: dict[str, tuple[int, tuple[str, ...]]] = {
    "package": (401, ("log.fields.service:", "http.headers.X-Content-Type-Options:")),
    "mirror": (200, ("log.fields.service:",)),
    "private-upstream": (
        200,
        ("proxy.username:", "proxy.remoteurl:", "http.headers.X-", "proxy.ttl:"),
    ),
    "certificate": (
        401,
        ("auth: ", "log.fields.service:", "http.tls.minimumtls:", "compatibility.schema1.enabled:"),
    ),
    "token-server": (401, ("loglevel: the log has one level",)),
    "behind-a-proxy": (
        401,
        (
            "http.host:",
            "log.level:",
            "log.accesslog.disabled:",
            "validation.",
            "catalog.maxentries:",
        ),
    ),
    "read-only": (401, ("auth: ",)),
    "throw-away": (401, ("auth: ", "log.level:", "log.fields.service:", "log.fields.environment:")),
}


class Here:
    """A folder with what configurations name, and free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        authority = CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        hashed = bcrypt.using(rounds=4).hash("hunter2")
        (folder / "htpasswd").write_text(f"puller:{hashed}\n")
        (folder / "data").mkdir()

    def write(self, name: str, text: str | None = None) -> Path:
        """Put a configuration into the folder."""
        text = (FOLDER / f"{name}.yml").read_text() if text is None else text
        for word, value in (
            ("@ROOT@", str(self.folder)),
            ("@PORT@", str(self.ports[0])),
            ("@PORT2@", str(self.ports[1])),
        ):
            text = text.replace(word, value)
        file = self.folder / f"{name}.yml"
        file.write_text(text)
        return file

    def run(self, file: object, *words: object, **variables: str) -> tuple[int, str, str]:
        """Run the command on a configuration; returns its exit code, output and errors."""
        names = [name for name in os.environ if name.startswith("REGISTRY_")]
        output, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                code = main(["import-config", str(file), *map(str, words)])
        return code, output.getvalue(), errors.getvalue()

    def imported(self, file: object, *words: object, **variables: str) -> tuple[Any, list[str]]:
        """Return the configuration that is printed, and what is said of it."""
        code, output, errors = self.run(file, *words, **variables)
        assert code == 0, errors
        return yaml.safe_load(output), errors.splitlines()

    def refused(self, file: object, *words: object, **variables: str) -> str:
        """Return the one line of a configuration that is refused."""
        code, output, errors = self.run(file, *words, **variables)
        assert (code, output) == (2, "")
        assert errors.count("\n") == 1, errors
        return errors

    def serve(self, config: Any) -> int:
        """Serve a configuration, and return the status of /v2/."""
        file = self.folder / "ours.yaml"
        file.write_text(yaml.safe_dump(config))
        argv = [sys.executable, "-m", "buildset_registry", "serve", "--config", str(file)]
        with (self.folder / "log").open("w") as log:
            server = subprocess.Popen(argv, stdout=log, stderr=log)
            try:
                return self._status(server, tls="tls" in config)
            finally:
                server.terminate()
                server.wait(60)

    def _status(self, server: subprocess.Popen[bytes], *, tls: bool) -> int:
        trusted = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            connection = (
                http.client.HTTPSConnection("127.0.0.1", self.ports[0], timeout=5, context=trusted)
                if tls
                else http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=5)
            )
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request("GET", "/v2/")
                return connection.getresponse().status
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.mark.parametrize("name", SERVED)
def test_published_configuration_serves_and_says_what_is_lost(here: Here, name: str) -> None:
    """Each key that has no equal is a line; the others have none."""
    status, said = SERVED[name]
    config, notes = here.imported(here.write(name))
    assert len(notes) == len(said), notes
    assert all(any(note.startswith(f"note: {one}") for note in notes) for one in said), notes
    assert not any(secret in note for note in notes for secret in SECRETS)
    assert here.serve(config) == status


def test_container_without_a_file_is_told_by_its_variables(here: Here) -> None:
    """As ``docker run --env-file`` starts it; the image's own file says little."""
    variables = here.folder / "variables"
    variables.write_text(
        "# of a compose file\n"
        "REGISTRY_AUTH=htpasswd\n"
        "REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm\n"
        f"REGISTRY_AUTH_HTPASSWD_PATH={here.folder}/htpasswd\n"
        f"REGISTRY_HTTP_ADDR=0.0.0.0:{here.ports[0]}\n"
        f"REGISTRY_HTTP_TLS_CERTIFICATE={here.folder}/cert.pem\n"
        f"REGISTRY_HTTP_TLS_KEY={here.folder}/key.pem\n"
        f"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={here.folder}/data\n"
        'REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin=["*"]\n'
    )
    config, notes = here.imported("/dev/null", "--env-file", variables)
    assert config["auth"]["anonymous_pull"] is False
    assert config["auth"]["rules"] == [{"repositories": ["**"], "actions": ["pull", "push"]}]
    assert len(notes) == 1
    assert "Access-Control-Allow-Origin" in notes[0] or "access-control" in notes[0]
    assert here.serve(config) == 401


def test_variable_of_the_environment_overrides_the_file(here: Here) -> None:
    """Whatever case the file's keys are in; an item of a list by its number."""
    config, _ = here.imported(
        here.write("token-server"),
        REGISTRY_STORAGE="inmemory",
        REGISTRY_HTTP_ADDR='"[::1]:5008"',
        REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL="https://new.example.com",
    )
    assert config["storage"] == "memory"
    assert config["endpoints"] == {"single": {"address": "::1", "port": 5008}}
    assert [one["url"] for one in config["notifications"]] == ["https://new.example.com"]


def test_each_meaning_is_kept(here: Here) -> None:
    """Not only the names: units, defaults, and who is let in."""
    upstream, _ = here.imported(here.write("private-upstream"))
    assert upstream["endpoints"] == {"pull": {"port": here.ports[0]}}
    assert upstream["upstreams"][0] == {
        "name": "ghcr.io",
        "url": "https://ghcr.io",
        "username": "puller",
        "password": "hunter2",
        "public": True,
    }
    assert upstream["gc"] == {"uploads": 86400}
    hub, _ = here.imported(here.write("mirror"))
    assert hub["upstreams"][0]["name"] == "docker.io"
    proxied, _ = here.imported(here.write("behind-a-proxy"))
    assert proxied["limits"] == {"shutdown_seconds": 90}
    assert proxied["log"] == {"format": "json"}
    portal, _ = here.imported(here.write("token-server"))
    assert portal["notifications"] == [
        {
            "name": "portal",
            "url": "https://portal.example.com/v2/webhooks/events",
            "headers": {"Authorization": "Bearer hunter2"},
            "timeout_seconds": 1,
            "retry_seconds": 1,
        }
    ]
    counted, _ = here.imported(here.write("certificate"))
    assert counted["metrics"] == {
        "address": "0.0.0.0",  # noqa: S104 - as distribution listens
        "port": here.ports[1],
    }


def test_certificates_of_lets_encrypt_are_ordered_here(here: Here) -> None:
    """By the same account's address, for the same names; what has to be done is said."""
    tls = "{cachefile: /c, email: a@example.com, hosts: [one.example.com], directoryurl: @URL@}"
    text = "{version: 0.1, http: {tls: {letsencrypt: " + tls + "}}}"
    config, notes = here.imported(here.write("acme", text.replace("@URL@", "https://ca.example/d")))
    assert config["acme"] == {
        "names": ["one.example.com"],
        "email": "a@example.com",
        "directory": "https://ca.example/d",
    }
    assert "tls" not in config
    said = [note for note in notes if "letsencrypt" in note]
    assert len(said) == 2
    assert "port 80 of each name has to lead here; install buildset-registry[acme]" in said[0]
    unused = "{version: 0.1, http: {tls: {letsencrypt: {email: a@example.com}}}}"
    config, notes = here.imported(here.write("unused", unused))
    assert "acme" not in config
    assert any("letsencrypt.email: is not used there either" in note for note in notes)


def test_users_of_zuul_registry_become_hashes_and_rules(here: Here) -> None:
    """Who could only read still can only read, and nobody without a login."""
    file, users = here.write("zuul-registry"), here.folder / "users"
    config, notes = here.imported(file, "--htpasswd", users, ZUUL_REGISTRY_SECRET="s")
    assert users.stat().st_mode & 0o777 == 0o600
    lines = dict(line.split(":", 1) for line in users.read_text().splitlines())
    assert bcrypt.verify("hunter2", lines["zuul"]) and bcrypt.verify("hunter3", lines["node"])
    assert config["auth"]["rules"] == [
        {"users": ["zuul"], "repositories": ["**"], "actions": ["*"]},
        {"users": ["node"], "repositories": ["**"], "actions": ["pull"]},
    ]
    assert [note.partition(" ")[2].partition(":")[0] for note in notes] == [
        "its images are in a layout of its own",
        "registry.storage.expiration",
    ]
    assert here.serve(config) == 401
    assert "not there yet" in here.refused(file, "--htpasswd", users)


def test_a_file_of_users_that_cannot_be_written_is_not_left(here: Here) -> None:
    """A part of it would keep the next run from writing the whole one."""
    file, users = here.write("zuul-registry"), here.folder / "users"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        told = here.refused(file, "--htpasswd", users, ZUUL_REGISTRY_SECRET="s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write {users}: File too large; make room" in told
    assert not users.exists()


#: The front of a configuration of zuul-registry.
USERS = "{registry: {port: 1, storage: {driver: filesystem}, users: "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 0.2", "version 0.2 is not known"),
        ("- 1", "is neither distribution's configuration"),
        ("a: b", "is neither distribution's configuration"),
        ("version: [", "is not YAML"),
        ("{version: 0.1, http: {addr: here}}", "http.addr must be an address"),
        ("{version: 0.1, http: {tls: {letsencrypt: {cachefile: a}}}}", "letsencrypt.hosts must be"),
        ("{version: 0.1, http: {draintimeout: soon}}", "http.draintimeout must be a duration"),
        ("{version: 0.1, auth: {htpasswd: {realm: r}}}", "auth.htpasswd.path must be"),
        ("{version: 0.1, auth: {token: {realm: r}}}", "auth.token.service is missing"),
        ("{version: 0.1, notifications: {endpoints: 3}}", "notifications.endpoints must be a list"),
        ("{registry: {port: x}}", "registry.port must be a port"),
        (
            "{registry: {port: 1, storage: {driver: tape}}}",
            "driver must be filesystem, swift or s3",
        ),
        (
            "{registry: {port: 1, storage: {driver: filesystem}, users: [{pass: hunter2}]}}",
            "registry.users[0] needs name, pass, and access",
        ),
        ("{version: 0.1, proxy: {remoteurl: 'https://[u:hunter2@x'}}", "proxy.remoteurl must be"),
        (
            "{version: 0.1, proxy: {remoteurl: 'ftp://u:hunter2@x'}}",
            "is not an https:// or http://",
        ),
        (f"{{version: 0.1, http: {{draintimeout: {'9' * 400}h}}}}", "must be a duration"),
        ("{version: 0.1, x: &a {b: *a}}", "refers to itself"),
        ("{version: 0.1, notifications: {endpoints: [hunter2]}}", "must be a mapping"),
        (USERS + "[{name: a, pass: hunter2, access: [read]}]}}", "needs name, pass, and access"),
        (USERS + "[{name: 'a:b', pass: hunter2, access: read}]}}", "a name has no colon"),
        (USERS + '[{name: "a\\nb", pass: hunter2, access: read}]}}', "no control characters"),
        (USERS + f"[{{name: a, pass: {'hunter2' * 11}, access: read}}]}}}}", "more than 72 bytes"),
        (USERS + '[{name: a, pass: "hunter2\\0", access: read}]}}', "nor one with NUL"),
        (USERS + "hunter2}}", "registry.users must be a list"),
    ],
)
def test_what_is_wrong_is_one_line(here: Here, text: str, said: str) -> None:
    """With the key, and without what may be a secret."""
    line = here.refused(here.write("wrong", text))
    assert said in line
    assert not any(secret in line for secret in SECRETS)


def test_file_that_cannot_be_read_is_one_line(here: Here) -> None:
    assert "No such file" in here.refused(here.folder / "nowhere.yml")
    (here.folder / "latin").write_bytes(b"version: \xe9")
    assert "not UTF-8" in here.refused(here.folder / "latin")
    file = here.write("mirror")
    assert "line 2 is not NAME=VALUE" in here.refused(file, "--env-file", file)
    assert "is not YAML" in here.refused(file, REGISTRY_HTTP_ADDR="[::1]:5000")
    token = here.write("token-server")
    wrong = {"REGISTRY_NOTIFICATIONS_ENDPOINTS_LAST_URL": "https://example.com"}
    assert "names no item of a list by LAST" in here.refused(token, **wrong)
    assert "REGISTRY_STORAGE must be the name" in here.refused(file, REGISTRY_STORAGE="[a]")


def test_redirects_of_a_bucket_are_below_its_storage(here: Here) -> None:
    """Where the registry reads them; durations are seconds, and what is not known is named."""
    config, notes = here.imported(here.write("s3"))
    assert config["storage"]["redirect"] == {
        "disable": True,
        "cloudfront": {
            "baseurl": "https://d111.example.net",
            "privatekey": "/etc/cf.pem",
            "keypairid": "KEY",
            "duration": 3000,
        },
    }
    assert config["storage"]["s3"]["bucket"] == "images"
    assert [note for note in notes if "storage" in note] == []
    text = """{version: 0.1, storage: {gcs: {bucket: a, maxconcurrency: 9}}, middleware: {storage:
        [{name: redirect, options: {baseurl: "https://blobs.example.com/a"}},
         {name: alicdn, options: {baseurl: x}}]}}"""
    config, notes = here.imported(here.write("gcs", text))
    redirect = {"base_url": "https://blobs.example.com/a"}
    assert config["storage"] == {"gcs": {"bucket": "a"}, "redirect": redirect}
    said = [note.partition(" ")[2].partition(":")[0] for note in notes]
    assert said[:2] == ["storage.gcs.maxconcurrency", "auth"]
    assert said[2:] == ["middleware.storage.alicdn"]


def test_redirects_of_a_folder_are_none(here: Here) -> None:
    """A line says so."""
    text = """{version: 0.1, storage: {filesystem: {rootdirectory: /data}}, middleware: {storage:
        [{name: redirect, options: {baseurl: "https://blobs.example.com"}}]}}"""
    config, notes = here.imported(here.write("folder", text))
    assert config["storage"] == "/data"
    assert any("middleware.storage.redirect: clients are sent elsewhere" in one for one in notes)


@pytest.mark.parametrize("filtered", ["aws", "awsregion"])
def test_clients_in_amazons_networks_are_named(here: Here, filtered: str) -> None:
    """They are sent to CloudFront as the others are; ``none`` is what is done here."""
    options = "{baseurl: d.example.net, privatekey: /cf.pem, keypairid: K, ipfilteredby: WORD}"
    text = f"""{{version: 0.1, storage: {{s3: {{bucket: a, region: b}}}}, middleware: {{storage:
        [{{name: cloudfront, options: {options}}}]}}}}"""
    _config, notes = here.imported(here.write("aws", text.replace("WORD", filtered)))
    assert any("cloudfront.ipfilteredby: clients in Amazon's" in note for note in notes)
    _config, notes = here.imported(here.write("aws", text.replace("WORD", "none")))
    assert not any("cloudfront" in note for note in notes)


def test_deletes_that_a_token_server_may_allow_are_named(here: Here) -> None:
    """There they are off until it is asked for them, whatever a token says."""
    text = (FOLDER / "token-server.yml").read_text()
    off = text.replace("delete: {enabled: true}", "delete: {enabled: false}")
    said = "note: storage.delete: deleting is off there"
    for given, times in ((text, 0), (off, 1), (f"{off}proxy: {{remoteurl: 'https://r.io'}}\n", 0)):
        _config, notes = here.imported(here.write("token-server", given))
        assert sum(note.startswith(said) for note in notes) == times, notes


def test_middleware_without_options_is_no_middleware(here: Here) -> None:
    text = "{version: 0.1, middleware: {storage: [{name: cloudfront, options: [a]}]}}"
    config, _notes = here.imported(here.write("odd", text))
    assert "redirect" not in config
