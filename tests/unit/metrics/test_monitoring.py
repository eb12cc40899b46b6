# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alert rules of ``monitoring/`` ask for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildset_registry.acme.renewal import OrderCounters
from buildset_registry.gc import CollectionHistory, CollectionReport
from buildset_registry.http.context import UploadLimit
from buildset_registry.metrics.counters import RequestCounters
from buildset_registry.metrics.listener import MetricsListener, Sources
from buildset_registry.metrics.prometheus import render
from buildset_registry.metrics.workers import Siblings, WorkerStates
from buildset_registry.notifications.events import Source
from buildset_registry.notifications.webhook import Receiver, Webhook
from buildset_registry.store.filesystem.space import Space
from buildset_registry.upstream.counters import RateLimit, UpstreamCounters

REPOSITORY = Path(__file__).resolve().parents[3]
BOARD = json.loads((REPOSITORY / "monitoring" / "grafana.json").read_text())
RULES = yaml.safe_load((REPOSITORY / "monitoring" / "alerts.yml").read_text())["groups"][0]["rules"]
PREFIX = "buildset_registry_"
#: What Prometheus itself adds to what it scrapes, and several workers to most of what they tell.
ADDED = {"instance", "job", "worker"}
_SELECTED = re.compile(r"\b(buildset_registry_\w+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|group_left) \(([^)]*)\)")

#: The labels of each name.
Names = dict[str, set[str]]


async def scrape(listener: MetricsListener) -> str:
    """Return what Prometheus is given."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await listener({"type": "http", "method": "GET", "path": "/metrics"}, receive, send)
    return b"".join(one.get("body", b"") for one in sent).decode()


@pytest.fixture
async def names(tmp_path: Path) -> Names:
    """Every metric of a registry that uses all that there is."""
    requests, upstream, history = RequestCounters("pull"), UpstreamCounters(), CollectionHistory()
    requests.add(("end-2", "GET", 200), 1, 1, 0.1)
    upstream.requests["docker.io", "GET", "200"] += 1
    upstream.limits["docker.io"] = RateLimit(100, 50, 21600, 0.0)
    history.add(CollectionReport(dry_run=False), 1.0)
    (tmp_path / "docker/registry/v2/blobs").mkdir(parents=True)
    receiver = Receiver(name="one", url="http://localhost")
    webhook = Webhook(receiver, Source(5000))
    sources = Sources(
        [requests],
        UploadLimit(1),
        upstream,
        Space(tmp_path),
        history,
        [webhook],
        lambda: (1.0, 2.0),
        OrderCounters(),
    )
    text = await scrape(MetricsListener(sources))
    text += render(await Siblings(0, [], WorkerStates(1)).metrics())
    await webhook.close()
    found: Names = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _brace, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield what is asked, by the title under which it is, with the words that are shown of it."""
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for rule in RULES:
        shown = " ".join(rule["annotations"].values()).replace("$labels.", "")
        yield rule["alert"], rule["expr"], re.sub(r"\{\{ \$value[^}]*\}\}", "", shown)


@pytest.mark.parametrize(("title", "expression", "shown"), list(expressions()))
def test_an_expression_asks_for_what_exists(
    names: Names, title: str, expression: str, shown: str
) -> None:
    """A metric, and labels that it has; what is shown of it is not lost on the way."""
    labels = set(ADDED)
    for name, matchers in _SELECTED.findall(expression):
        assert name in names, f"{title}: there is no {name}"
        labels |= names[name]
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert asked - names[name] - ADDED == set(), title
    grouped = {word.strip() for some in _GROUPED.findall(expression) for word in some.split(",")}
    assert grouped - labels == set(), title
    words = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", shown))
    kept = grouped if re.search(r"\bby \(", expression) else labels
    assert words - kept == set(), title


def test_every_metric_is_shown(names: Names) -> None:
    """On the dashboard; of a histogram its buckets."""
    asked = {
        found[0] for _title, expr, _shown in expressions() for found in _SELECTED.findall(expr)
    }
    buckets = {f"{PREFIX}request_seconds_{word}" for word in ("sum", "count")}
    assert set(names) - buckets == asked


def test_every_metric_is_documented(names: Names) -> None:
    """In the table of the page for operators, which has no other ones."""
    page = (REPOSITORY / "docs" / "how-to" / "operate.rst").read_text()
    table = page.partition("Metrics\n-------")[2].partition("\nDashboard and alerts\n")[0]
    rows = re.findall(r"^   \* - (.*(?:\n {7}``.*)*)", table, re.MULTILINE)
    told = {PREFIX + name for row in rows for name in re.findall("``(.+?)``", row)}
    plain = {re.sub("_(bucket|sum|count)$", "", name) for name in names}
    assert told == plain


@pytest.mark.parametrize(
    ("life", "left", "fires"), [(90, 30, False), (90, 13, True), (6, 3, False), (6, 1, True)]
)
def test_short_lives_are_measured_by_themselves(life: float, left: float, fires: bool) -> None:
    """A certificate that lives for six days always ends within fourteen."""
    (rule,) = [one for one in RULES if one["alert"] == "BuildsetRegistryCertificateEndsSoon"]
    times = {"end": left, "start": left - life}
    text = re.sub(
        r"min by \(job, instance\) \(buildset_registry_certificate_(end|start)_seconds\)",
        lambda found: str(times[found[1]] * 86400),
        rule["expr"].replace("time()", "0"),
    )
    assert re.fullmatch(r"[-\d. *<()and]+", text)
    assert eval(text) is fires  # noqa: S307 - numbers and operators


def test_panels_have_places_of_their_own() -> None:
    """And all take the source and the processes that are chosen at the top."""
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _y in cells) < 24, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('instance=~"$instance"' in one["expr"] for one in panel["targets"])
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    """In two sentences, and how much it matters."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["annotations"]["description"].endswith(".")
