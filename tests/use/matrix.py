# SPDX-License-Identifier: Apache-2.0
"""A table of the images that the clients get by public names, told by digest.

The names are pushed to the registry of the buildset and to the public one, as other images. The
facts of the registry come by standard input, its command as an argument; the table goes to standard
output and to the reports, beside what the registry's ledger says of each of its cells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from buildset_clients.canary.image import Image, PushEndpoint
from buildset_clients.registry import RegistryFacts, Setup

from tests.lab.__main__ import FOLDER
from tests.lab.keeper import REPOSITORY
from tests.lab.lab import Lab
from tests.use.clients import CLIENTS
from tests.use.public import ADDRESS, HOST, PUBLIC, token
from tests.use.recorded import Cell, compare
from tests.use.replaying import RegistryHost

TABLE = REPOSITORY / "build" / "reports" / "use.txt"
#: What the ledger has of the table.
ROWS = TABLE.with_name("ledger.txt")
#: Seconds within which the last rows are written.
_WRITTEN = 60
#: The one that is the same daemon with the same agent as the one before it, and seconds after which
#: a ledger tells two pulls of one client apart (decision 0045).
_TWIN, _APART = "containerd 2 by CRI", 1.5
NAMES = (
    "docker.io/library/app",
    "docker.io/org/app",
    "quay.io/org/app",
    "registry.example.com/org/app",
)
NAMESPACES = {
    "docker.io": "https://registry-1.docker.io",
    "quay.io": "https://quay.io",
    "registry.example.com": "https://registry.example.com",
}
#: The paths at which a host has this checkout.
PATHS = "/opt/checkout/roles/use_buildset_registry/module_utils:/opt/checkout"
#: Layers that name no file: they are no answer where a node's configuration is at fault.
VAGUE = ("fallback", "client")
WIDTH = 24
#: Of every run its own: what was pulled through stays what it was.
PUSHED, PUBLISHED, UNLISTED = (
    f"{word}-{os.getpid()}" for word in ("pushed", "published", "unlisted")
)


@dataclass
class Images:
    """The images by name and tag: the buildset's and the public ones."""

    ours: dict[tuple[str, str], Image]
    public: dict[tuple[str, str], Image]

    def expected(self, name: str, tag: str) -> str:
        """Tell the digest that every client is to get."""
        found = self.ours.get((name, tag)) or self.public[name, tag]
        return found.digest

    def describe(self, digest: str, name: str, tag: str) -> str:
        """Tell whose image a digest is."""
        ours = self.ours.get((name, tag))
        if ours and ours.digest == digest:
            return f"buildset {digest[7:15]}"
        if self.public[name, tag].digest == digest:
            return f"public   {digest[7:15]}"
        return "nothing" if not digest else f"other    {digest[7:15]}"


def push(registry: RegistryFacts, images: dict[tuple[str, str], Image]) -> None:
    """Push images by their names."""
    endpoint = PushEndpoint(registry)
    for (name, tag), image in images.items():
        endpoint.push_as(image, name.removeprefix("docker.io/"), tag)


def publish(images: dict[tuple[str, str], Image]) -> None:
    """Push images to the public registry, which has them without its own name."""
    cert = (PUBLIC / "ca.pem").read_text()
    endpoint = PushEndpoint(RegistryFacts(ADDRESS, 443, ADDRESS, 443, "", "", cert, ""))
    paths = {key: key[0].partition("/")[2] for key in images}
    endpoint.authorization = f"Bearer {token(set(paths.values()))}"
    for key, image in images.items():
        endpoint.push_as(image, paths[key], key[1])


def make_images(facts: RegistryFacts) -> Images:
    """Make the images and push them to both sides."""
    tags = [(name, tag) for name in NAMES for tag in (PUSHED, PUBLISHED)]
    public = {key: Image.make("amd64") for key in tags if not _is_twin(key)}
    public |= {key: public[_twin(key), key[1]] for key in tags if _is_twin(key)}
    ours = {(name, PUSHED): Image.make("amd64") for name in NAMES}
    publish(public)
    push(facts, ours)
    return Images(ours, public)


def _is_twin(key: tuple[str, str]) -> bool:
    """The lab has one public registry under all names: org/app is one repository there."""
    return key[0].endswith("/org/app") and not key[0].startswith("docker.io/")


def _twin(key: tuple[str, str]) -> str:
    return "docker.io/org/app" if _is_twin(key) else key[0]


def ask(client: str, names: Sequence[str], tag: str) -> tuple[list[str], str]:
    """Return the digests that a client gets by some names, and what it says."""
    one = CLIENTS[client]
    lines = [f"echo = $({one.command.format(f'{name}:{tag}')})" for name in names]
    host = ["ssh", "-F", str(FOLDER / "ssh_config"), f"{one.user}@{one.host}", "; ".join(lines)]
    done = subprocess.run(host, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("=")]
    assert len(found) == len(names), f"{client}: {done.stdout}{done.stderr}"
    return found, done.stderr


def get(client: str, tag: str) -> list[str]:
    """Return the digests that a client gets by the names."""
    if client == _TWIN:
        time.sleep(_APART)
    found, said = ask(client, NAMES, tag)
    if "" in found:
        sys.stderr.write(f"{client}: {said}")
    return found


def get_all(tag: str) -> dict[str, list[str]]:
    """Ask every client, one after the other on each host."""
    hosts = {one.host for one in CLIENTS.values()}

    def of(host: str) -> dict[str, list[str]]:
        return {name: get(name, tag) for name, one in CLIENTS.items() if one.host == host}

    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(of, hosts))
    return {name: digests for answer in answers for name, digests in answer.items()}


@contextmanager
def upstream_down() -> Iterator[None]:
    """Have the public registries, and what gives tokens for them, refuse connections."""
    lab = Lab.read(FOLDER)
    rule = ["INPUT", "--protocol", "tcp", "!", "--dport", "22", "--jump", "REJECT"]
    rule += ["--reject-with", "tcp-reset"]
    subprocess.run(lab.command(HOST, "iptables", "--insert", *rule), check=True)
    try:
        yield
    finally:
        subprocess.run(lab.command(HOST, "iptables", "--delete", *rule), check=True)


def rows(images: Images, title: str, tag: str, cells_got: list[Cell]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each client, and whether all of it is as it should be; add the cells."""
    yield f"\n{title}", True
    answers = get_all(tag)
    for client in CLIENTS:
        cells, right = [], True
        for name, digest in zip(NAMES, answers[client], strict=True):
            good = digest == images.expected(name, tag)
            cells_got.append(Cell(CLIENTS[client].host, client, name, tag, digest))
            right &= good
            cells.append(images.describe(digest, name, tag) + ("" if good else " WRONG"))
        yield f"{client:<{WIDTH}}" + "".join(f"{cell:<26}" for cell in cells), right


def as_people_have_them(facts: dict[str, object], images: Images) -> Iterator[tuple[str, bool]]:
    """Yield a line for each client of each of these nodes, and whether nothing of it is wrong."""
    yield (
        "\npushed by this buildset, and another image upstream, on nodes as people have them",
        True,
    )
    for host in ("node", "current"):
        pairs = {name: (images.ours[name, PUSHED], images.public[name, PUSHED]) for name in NAMES}
        taken = {
            f"{name}:{PUSHED}": (ours.digest, public.digest)
            for name, (ours, public) in pairs.items()
        }
        names = [[name, url] for name, url in NAMESPACES.items()]
        direct = {key: value for key, value in facts.items() if key != "proxy_port"}
        given = {"host": host, "facts": direct, "names": names, "images": taken}
        script = f"cd /opt/checkout && PYTHONPATH={PATHS} python3 -B -m tests.use.nodes"
        words = ["ssh", "-F", str(FOLDER / "ssh_config"), f"root@{host}", script]
        done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True)
        sys.stderr.write(done.stderr)
        assert done.returncode == 0, done.stderr
        for row in map(json.loads, done.stdout.splitlines()):
            yield describe(row)


def describe(row: dict[str, str]) -> tuple[str, bool]:
    """Write the line of a client of a node; a refusal is one line that tells what to do."""
    begin = f"{row['node']:<{2 * WIDTH - 14}}{row['client']:<{WIDTH}}"
    if "refused" in row:
        said = row["refused"]
        vague = "\n" in said or any(f": {layer}: " in said for layer in VAGUE)
        return f"{begin}refused{': VAGUE' if vague else ''}: {said}", not vague
    cells = [row.get(f"{name}:{PUSHED}", "-") for name in NAMES]
    return begin + "".join(f"{cell:<26}" for cell in cells), not {"SILENT", "WRONG"} & {*cells}


def main() -> int:
    """Make the table, or the part of it that is of nodes as people have them."""
    facts = json.load(sys.stdin)
    registry = Setup.read(facts, "", [], []).registry
    images = make_images(registry)
    if "nodes" in sys.argv:
        part, before = list(as_people_have_them(facts, images)), _before()
    else:
        host = RegistryHost(Lab.read(FOLDER), sys.argv[-1])
        cells: list[Cell] = []
        part, before = clean(images, cells), ""
        with upstream_down():
            part += replay(images, host, registry.port, cells)
        part += recorded(host, cells)
    text = "\n".join(line for line, _ in part) + "\n"
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(before + text)
    sys.stdout.write(text)
    return 0 if all(right for _, right in part) else 1


def _before() -> str:
    return TABLE.read_text() if TABLE.exists() else ""


def clean(images: Images, cells: list[Cell]) -> list[tuple[str, bool]]:
    """Return the table of the nodes as the tests have them."""
    lines = [(" " * WIDTH + "".join(f"{name:<26}" for name in NAMES), True)]
    lines += rows(images, "pushed by this buildset, and another image upstream", PUSHED, cells)
    lines += rows(images, "only upstream", PUBLISHED, cells)
    with upstream_down():
        lines += rows(images, "pushed by this buildset, upstream down", PUSHED, cells)
        lines += rows(images, "only upstream, pulled before, upstream down", PUBLISHED, cells)
    return lines


def replay(
    images: Images, host: RegistryHost, port: int, cells: list[Cell]
) -> Iterator[tuple[str, bool]]:
    """Yield the table of a lock that is replayed from a folder, and what it does not list."""
    locked = {f"{name}:{PUBLISHED}": images.public[name, PUBLISHED].digest for name in NAMES}
    # Its folder is filled from the registry by their digests, by a copy that is in the ledger, too.
    for name in NAMES:
        digest = images.public[name, PUBLISHED].digest
        cells.append(Cell("registry", "copy", name, digest, digest))
    with host.replaying(locked, port):
        title = "only upstream, replayed from a folder by an empty store, upstream down"
        yield from rows(images, title, PUBLISHED, cells)
        yield "\nnot in the lock that is replayed, strictly", True
        with ThreadPoolExecutor(len(CLIENTS)) as pool:
            answers = pool.map(lambda client: ask(client, ["quay.io/org/app"], UNLISTED), CLIENTS)
            refusals = dict(zip(CLIENTS, answers, strict=True))
        lock = f"quay.io/org/app:{UNLISTED} is not in the lock "
        yield f"the registry's log: {lock}...", lock in host.log()
        for client, ((digest,), said) in refusals.items():
            words = "refused, and told so" if lock in said else "refused"
            yield f"{client:<{WIDTH}}{words if not digest else f'WRONG {digest}'}", not digest


def recorded(host: RegistryHost, cells: list[Cell]) -> list[tuple[str, bool]]:
    """Compare the table with the ledger; what it says is left with the reports."""
    deadline = time.monotonic() + _WRITTEN
    while (wrong := compare(cells, report := host.report())) and time.monotonic() < deadline:
        time.sleep(1)
    wrong += [f"the report lacks: {gap}" for gap in report["gaps"] if "was started" not in gap]
    nodes = [f"{one['address']}: {words}" for one in report["nodes"] for words in one["said"]]
    told = f"{len(cells)} cells of the table in {len({cell.client for cell in cells})} clients, "
    told += f"{len(wrong)} that are not each in exactly one row of the ledger"
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    lines = [told, *wrong, "", "what the nodes' canaries said", *nodes]
    ROWS.write_text("\n".join(lines) + "\n")
    return [(f"\n{told}", not wrong and bool(nodes)), *((line, False) for line in wrong)]


def enter() -> None:
    """Go on in the network of the node, where the registries can be reached."""
    node = Lab.read(FOLDER).hosts["node"].number
    network = ["nsenter", f"--net=/proc/{node}/ns/net", "--", sys.executable]
    environment = {**os.environ, "LAB_NETWORK": "node", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [*network, "-m", "tests.use.matrix", *sys.argv[1:]]
    os.execvpe(words[0], words, environment)  # noqa: S606  # the words are ours


if __name__ == "__main__":
    if os.environ.get("LAB_NETWORK") != "node":
        enter()
    sys.exit(main())
