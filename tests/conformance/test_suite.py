# SPDX-License-Identifier: Apache-2.0
"""The OCI conformance suite against the registry: a process of its own, over TLS.

Every optional API and every kind of data is switched on. The suite is pinned, so the number of its
tests is known: fewer are as wrong as a failure. Its reports stay in ``build/conformance``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import bcrypt
import pytest
import trustme
import yaml

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores

REPORTS = Path(__file__).resolve().parents[2] / "build" / "conformance"
USER, PASSWORD = "buildset", "correct horse"
STORES = ("filesystem", "memory", "bucket")
#: Services that are tried with one version of the suite: what differs is how each is spoken to.
#: Those whose servers start slowly are in ``tests/stores``, which has them running.
SERVICES = ("gcs", "versitygw")
SLOW_SERVICES = ("azure", "swift")

#: How many tests the suite has for a version of the specification, and all are to pass. With
#: everything switched on there is no difference: what is new in dev can be asked for in 1.1, too.
TESTS = {"1.1": 830, "dev": 830}

#: Tests that may be skipped, by name, with the reason. There is none: whatever the suite asks for,
#: the registry has. (Others skip "range 500-0", by sending the whole blob; 416 passes it.)
SKIPPED: dict[str, str] = {}

#: What the suite leaves out unless told otherwise, for one version or for both.
SWITCHES = (
    "OCI_API_BLOBS_ATOMIC",
    "OCI_API_BLOBS_DELETE",
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_MOUNT_ANONYMOUS",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_ATOMIC",
    "OCI_API_MANIFESTS_DELETE",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
    "OCI_API_REFERRER",
    "OCI_API_TAGS_ATOMIC",
    "OCI_API_TAGS_DELETE",
    "OCI_API_TAGS_LIST",
    "OCI_DATA_ARTIFACT",
    "OCI_DATA_ARTIFACT_LIST",
    "OCI_DATA_CUSTOM_FIELDS",
    "OCI_DATA_DATA_FIELD",
    "OCI_DATA_EMPTY_BLOB",
    "OCI_DATA_IMAGE",
    "OCI_DATA_INDEX",
    "OCI_DATA_INDEX_LIST",
    "OCI_DATA_NO_LAYERS",
    "OCI_DATA_NONDISTRIBUTABLE",
    "OCI_DATA_SHA512",
    "OCI_DATA_SPARSE",
    "OCI_DATA_SUBJECT",
    "OCI_DATA_SUBJECT_LIST",
    "OCI_DATA_SUBJECT_MISSING",
)


@contextlib.contextmanager
def serving(folder: Path, storage: object) -> Iterator[int]:
    """Run ``buildset-registry serve`` and yield its port once it accepts connections."""
    port = free_port()
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
    configuration = {
        "endpoints": {"single": {"address": "127.0.0.1", "port": port}},
        "storage": storage,
        "sparse_images": True,
        "tls": {"certificate": "server.pem", "key": "server.pem"},
        "auth": {"htpasswd": "htpasswd"},
    }
    (folder / "registry.yaml").write_text(yaml.safe_dump(configuration))
    command = [sys.executable, "-m", "buildset_registry", "serve"]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--config", str(folder / "registry.yaml")], stdout=log, stderr=log
        )
    try:
        wait_for(port, process, folder / "registry.log")
        yield port
    finally:
        process.terminate()
        assert process.wait(60) == 0, (folder / "registry.log").read_text()


def storage_of(store: str, servers: ObjectStores) -> object:
    """Return what the configuration says of a kind of store."""
    if store in ("filesystem", "memory"):
        return {"filesystem": "data", "memory": "memory"}[store]
    # Its client sends its login on to where it is redirected, if that is the same host.
    return {**section_of(store, servers), "redirect": {"disable": True}}


def section_of(store: str, servers: ObjectStores) -> dict[str, object]:
    """Return the section of a new bucket or container of a service."""
    if store == "azure":
        return {"azure": servers.azurite.settings(servers.azurite.container())}
    if store == "gcs":
        google = servers.fake_gcs
        return {"gcs": google.settings(google.bucket()) | {"keyfile": str(google.keyfile)}}
    if store == "swift":
        return {"swift": servers.swift.settings(servers.swift.container())}
    server = servers.versitygw if store == "versitygw" else servers.minio
    return {"s3": server.settings(server.bucket())}


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the registry listens."""
    deadline = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def run_suite(
    version: str, port: int, authority: Path, results: Path, seconds: int
) -> ElementTree.Element:
    """Run the suite for a version of the specification and return its report."""
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    environment = {
        "HOME": os.environ["HOME"],
        "PATH": os.environ["PATH"],
        # The suite has no setting of its own for this: its OCI_TLS=insecure changes nothing.
        "SSL_CERT_FILE": str(authority),
        "OCI_REGISTRY": f"127.0.0.1:{port}",
        "OCI_VERSION": version,
        "OCI_USERNAME": USER,
        "OCI_PASSWORD": PASSWORD,
        "OCI_RESULTS_DIR": str(results),
        **dict.fromkeys(SWITCHES, "true"),
    }
    with (results / "output.txt").open("wb") as output:
        subprocess.run(
            ["conformance"],
            cwd=results,
            env=environment,
            stdout=output,
            stderr=output,
            timeout=seconds,
        )
    return ElementTree.parse(results / "junit.xml").getroot()


def examine(
    version: str, store: str, folder: Path, servers: ObjectStores, seconds: int = 110
) -> str:
    """Run the suite on a registry with a kind of store; returns what it counted."""
    with serving(folder, storage_of(store, servers)) as port:
        results = REPORTS / f"{version}-{store}"
        report = run_suite(version, port, folder / "ca.pem", results, seconds)
    tests = list(report.iter("testcase"))  # several have one name
    counts = Counter(str(test.get("status")) for test in tests)
    wrong = [
        f"{test.get('name')}: {test.get('status')}: {test.findtext('system-out')}"
        for test in tests
        if test.get("status") != ("skipped" if test.get("name") in SKIPPED else "passed")
    ]
    failed = counts["failure"] + counts["error"]
    counted = f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped"
    assert not wrong, "\n".join([counted, *wrong])
    assert len(tests) == TESTS[version] + len(SKIPPED)
    return counted


@pytest.mark.parametrize(
    ("version", "store"),
    [*itertools.product(TESTS, STORES), *(("1.1", service) for service in SERVICES)],
)
def test_every_test_of_the_suite_passes(
    version: str,
    store: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    object_stores: ObjectStores,
) -> None:
    """The suite finds nothing to fail and nothing that the registry lacks."""
    counted = examine(version, store, tmp_path, object_stores)
    request.node.user_properties.append((f"OCI conformance {version} on {store}", counted))
