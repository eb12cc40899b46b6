# SPDX-License-Identifier: Apache-2.0
"""Make a small image, push it to a registry, pull it back and compare the digests.

Reads the facts of the registry as JSON from standard input, so that the password is on no command
line. Uses skopeo or podman where the machine has one, otherwise requests of its own. TLS is
verified with the facts' certificate only. Prints what it did as JSON; leaves no file behind.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

IMAGE = "buildset-registry-demo:latest"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class DemoError(Exception):
    """What went wrong, in one line."""


def digest_of(content: bytes) -> str:
    """Name content as registries do."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    """An image in a folder, as the OCI image layout specification has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def blob(self, digest: str) -> Path:
        """Tell the path of a blob."""
        return self.folder / "blobs" / "sha256" / digest.partition(":")[2]

    def add(self, media_type: str, content: bytes) -> dict:
        """Store a blob and describe it."""
        digest = digest_of(content)
        path = self.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def make_image(self) -> None:
        """Make an image of one text file; its content is another one each time."""
        text = f"Made at {time.time_ns()}.\n".encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as layer:
            entry = tarfile.TarInfo("hello.txt")
            entry.size = len(text)
            layer.addfile(entry, io.BytesIO(text))
        rootfs = {"type": "layers", "diff_ids": [digest_of(archive.getvalue())]}
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add(CONFIG, json.dumps(config).encode()),
            "layers": [self.add(LAYER, gzip.compress(archive.getvalue()))],
        }
        entry = self.add(MANIFEST, json.dumps(manifest).encode())
        entry["annotations"] = {"org.opencontainers.image.ref.name": "image"}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        (self.folder / "index.json").write_text(json.dumps(index))
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    @property
    def digest(self) -> str:
        """Tell the digest of the image."""
        index = json.loads((self.folder / "index.json").read_text())
        return index["manifests"][0]["digest"]


class Registry:
    """The registry's two endpoints and how to log in to them."""

    def __init__(self, facts: dict) -> None:
        self.pull = self.address(facts["host"], facts["port"])
        self.push = self.address(facts["push_host"], facts["push_port"])
        self.cert = facts["cert"]
        login = f"{facts['username']}:{facts['password']}"
        self.credentials = base64.b64encode(login.encode()).decode()

    @staticmethod
    def address(host: str, port: int) -> str:
        """Write host and port as one."""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def write_options(self, folder: Path) -> tuple[Path, Path]:
        """Write the files that the container tools read credentials and certificate from."""
        certs = folder / "certs"
        certs.mkdir()
        (certs / "ca.crt").write_text(self.cert)
        auth = folder / "auth.json"
        auth.touch(mode=0o600)
        entry = {"auth": self.credentials}
        auth.write_text(json.dumps({"auths": {self.push: entry, self.pull: entry}}))
        return certs, auth


def run(*argv: object) -> str:
    """Run a program; its last line of errors is the reason why it failed."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DemoError(f"{argv[0]} {argv[1]} failed: {lines[-1]}")
    return done.stdout


def by_skopeo(registry: Registry, layout: Layout, folder: Path) -> tuple[str, str]:
    """Push and pull by skopeo."""
    certs, auth = registry.write_options(folder)
    pulled = Layout(folder / "pulled")
    copy = ("skopeo", "copy", "--quiet", "--authfile", auth)
    target = f"docker://{registry.push}/{IMAGE}"
    run(*copy, "--dest-cert-dir", certs, f"oci:{layout.folder}", target)
    source = f"docker://{registry.pull}/{IMAGE}"
    run(*copy, "--src-cert-dir", certs, source, f"oci:{pulled.folder}")
    return layout.digest, pulled.digest


def by_podman(registry: Registry, layout: Layout, folder: Path) -> tuple[str, str]:
    """Push and pull by podman, with a storage of its own."""
    certs, auth = registry.write_options(folder)
    storage = ("--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "vfs")
    options = ("--quiet", "--cert-dir", certs, "--authfile", auth)
    # Of a folder, podman makes the image's name from the path, and not every path is a name.
    archive = folder / "image.tar"
    with tarfile.open(archive, mode="w") as packed:
        packed.add(layout.folder, ".")
    image = run("podman", *storage, "pull", "--quiet", f"oci-archive:{archive}").strip()
    written = folder / "digest"
    target = f"docker://{registry.push}/{IMAGE}"
    run("podman", *storage, "push", *options, "--digestfile", written, image, target)
    run("podman", *storage, "rmi", "--force", image)
    source = f"{registry.pull}/{IMAGE}"
    run("podman", *storage, "pull", *options, source)
    pulled = run("podman", *storage, "image", "inspect", "--format", "{{.Digest}}", source)
    return written.read_text().strip(), pulled.strip()


class Requests:
    """The registry's API as far as the demonstration needs it."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.context = ssl.create_default_context(cadata=registry.cert)
        self.name, _separator, self.tag = IMAGE.partition(":")

    def send(self, method: str, address: str, path: str, body: bytes = b"", **fields: str) -> tuple:
        """Send one request and return the headers and the body of the answer."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        headers["Authorization"] = f"Basic {self.registry.credentials}"
        connection = http.client.HTTPSConnection(address, timeout=30, context=self.context)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"{method} https://{address}{path} failed: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise DemoError(f"{method} https://{address}{path} failed: status {answer.status}")
        return answer.headers, content

    def push_blob(self, descriptor: dict, content: bytes) -> None:
        """Upload one blob."""
        where = self.registry.push
        headers, _body = self.send("POST", where, f"/v2/{self.name}/blobs/uploads/")
        location = urlsplit(headers["Location"])
        query = "&".join(filter(None, [location.query, f"digest={descriptor['digest']}"]))
        octets = "application/octet-stream"
        self.send("PUT", where, f"{location.path}?{query}", content, Content_Type=octets)

    def push(self, layout: Layout) -> None:
        """Upload the blobs, then the manifest."""
        content = layout.blob(layout.digest).read_bytes()
        manifest = json.loads(content)
        for descriptor in [manifest["config"], *manifest["layers"]]:
            self.push_blob(descriptor, layout.blob(descriptor["digest"]).read_bytes())
        path = f"/v2/{self.name}/manifests/{self.tag}"
        self.send("PUT", self.registry.push, path, content, Content_Type=MANIFEST)

    def pull(self) -> str:
        """Download manifest and blobs, verify them, and tell the image's digest."""
        path = f"/v2/{self.name}"
        where = self.registry.pull
        _headers, content = self.send("GET", where, f"{path}/manifests/{self.tag}", Accept=MANIFEST)
        manifest = json.loads(content)
        for descriptor in [manifest["config"], *manifest["layers"]]:
            _headers, blob = self.send("GET", where, f"{path}/blobs/{descriptor['digest']}")
            if digest_of(blob) != descriptor["digest"]:
                raise DemoError(f"the registry sent other content for {descriptor['digest']}")
        return digest_of(content)


def by_requests(registry: Registry, layout: Layout, folder: Path) -> tuple[str, str]:
    """Push and pull by requests of this program's own."""
    requests = Requests(registry)
    requests.push(layout)
    return layout.digest, requests.pull()


TOOLS = {"skopeo": by_skopeo, "podman": by_podman, "requests": by_requests}


def choose(registry: Registry) -> str:
    """Take the first tool that the machine has; the tools refuse IPv6 addresses."""
    if "[" not in registry.pull + registry.push:
        for tool in ("skopeo", "podman"):
            if shutil.which(tool):
                return tool
    return "requests"


def pass_by_proxies(registry: Registry) -> None:
    """Let the tools ask the registry itself where the machine has a proxy for the internet."""
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = [urlsplit(f"//{address}").hostname for address in (registry.pull, registry.push)]
    names = ",".join(dict.fromkeys([name for name in [*spared.split(","), *hosts] if name]))
    os.environ.update(NO_PROXY=names, no_proxy=names)


def main() -> None:
    """Read the command line and the facts, and tell what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", choices=["auto", *TOOLS], default="auto")
    options = parser.parse_args()
    registry = Registry(json.load(sys.stdin))
    pass_by_proxies(registry)
    tool = choose(registry) if options.tool == "auto" else options.tool
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder) / "image")
        layout.make_image()
        try:
            pushed, pulled = TOOLS[tool](registry, layout, Path(folder))
        except DemoError as error:
            sys.exit(str(error))
    if pushed != pulled:
        sys.exit(f"pushed {pushed}, but pulled {pulled}")
    told = {"tool": tool, "image": IMAGE, "pushed": pushed, "pulled": pulled}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
