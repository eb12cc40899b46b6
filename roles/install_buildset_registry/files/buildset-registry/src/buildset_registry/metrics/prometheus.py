# SPDX-License-Identifier: Apache-2.0
"""The text format of Prometheus: metrics in, text out.

Source: Prometheus, "Exposition formats", text format 0.0.4. Written here rather than by
prometheus-client: its counters lock and look labels up for each request, and this is all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from buildset_registry.metrics.counters import BUCKET_BOUNDS, RequestCounters, Series

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "buildset_registry_"

Labels = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name without the prefix, its kind, what it is, and its values by labels."""

    name: str
    kind: str
    help: str
    values: Iterable[tuple[Labels, float]]
    suffix: str = ""
    """The end of the name of its values: a histogram has three kinds of them."""


def counter(name: str, text: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    return Metric(name, "counter", text, values)


def gauge(name: str, text: str, value: float, labels: Labels | None = None) -> Metric:
    return Metric(name, "gauge", text, [(labels or {}, value)])


def render(metrics: Iterable[Metric]) -> str:
    """Return the text that Prometheus scrapes."""
    lines: list[str] = []
    described = set()
    for metric in metrics:
        name = _PREFIX + metric.name
        if name not in described:
            described.add(name)
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        lines += [
            f"{name}{metric.suffix}{_labels(labels)} {_number(value)}"
            for labels, value in metric.values
        ]
    return "\n".join(lines) + "\n"


def request_metrics(all_counters: list[RequestCounters]) -> Iterator[Metric]:
    """Yield the metrics of what the endpoints have served."""
    rows = [
        ({"endpoint": one.endpoint, "route": route, "method": method, "status": status}, series)
        for one in all_counters
        for (route, method, status), series in sorted(one.series.items())
    ]
    yield counter("requests_total", "Requests.", [(key, row.requests) for key, row in rows])
    sent = [(key, row.sent) for key, row in rows]
    yield counter("sent_bytes_total", "Bytes of the bodies of answers.", sent)
    received = [(key, row.received) for key, row in rows]
    yield counter("received_bytes_total", "Bytes of the bodies of requests.", received)
    running = [({"endpoint": counters.endpoint}, counters.running) for counters in all_counters]
    yield Metric("requests_running", "gauge", "Requests that are not answered yet.", running)
    yield from _latencies(rows)


def _latencies(rows: list[tuple[dict[str, object], Series]]) -> Iterator[Metric]:
    """Yield the histogram by endpoint, route and method."""
    merged: dict[tuple[object, object, object], list[Series]] = {}
    for key, row in rows:
        merged.setdefault((key["endpoint"], key["route"], key["method"]), []).append(row)
    name, text = "request_seconds", "Time from a request's head to the end of its answer."
    for (endpoint, route, method), several in merged.items():
        labels = {"endpoint": endpoint, "route": route, "method": method}
        total, buckets = 0, []
        for index, bound in enumerate((*BUCKET_BOUNDS, "+Inf")):
            total += sum(row.buckets[index] for row in several)
            buckets.append(({**labels, "le": bound}, total))
        yield Metric(name, "histogram", text, buckets, "_bucket")
        seconds = sum(row.seconds for row in several)
        yield Metric(name, "histogram", text, [(labels, seconds)], "_sum")
        yield Metric(name, "histogram", text, [(labels, total)], "_count")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"
