# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format."""

from buildset_registry.metrics.counters import BUCKET_BOUNDS, RequestCounters
from buildset_registry.metrics.prometheus import counter, gauge, render, request_metrics


def test_a_metric_is_described_once_and_has_a_line_for_each_of_its_values() -> None:
    """Help, type, then name, labels and value."""
    text = render(
        [
            counter("hits_total", "Hits.", [({"kind": "blob"}, 2), ({"kind": "manifest"}, 3)]),
            gauge("seconds", "Seconds.", 0.5),
        ]
    )
    assert text == (
        "# HELP buildset_registry_hits_total Hits.\n"
        "# TYPE buildset_registry_hits_total counter\n"
        'buildset_registry_hits_total{kind="blob"} 2\n'
        'buildset_registry_hits_total{kind="manifest"} 3\n'
        "# HELP buildset_registry_seconds Seconds.\n"
        "# TYPE buildset_registry_seconds gauge\n"
        "buildset_registry_seconds 0.500000\n"
    )


def test_a_label_is_escaped() -> None:
    """What an upstream is called cannot end a line."""
    text = render([gauge("x", "X.", 1, {"upstream": 'a"b\\c\nd'})])
    assert text.splitlines()[-1] == 'buildset_registry_x{upstream="a\\"b\\\\c\\nd"} 1'


def test_latencies_of_all_statuses_make_one_histogram() -> None:
    """Cumulative buckets, their sum and their number, by endpoint, route and method."""
    counters = RequestCounters("pull")
    counters.add(("end-3", "GET", 200), 10, 0, 0.0002)
    counters.add(("end-3", "GET", 404), 20, 0, 0.03)
    counters.add(("end-3", "GET", 404), 20, 5, 1000.0)
    lines = render(request_metrics([counters])).splitlines()
    labels = '{endpoint="pull",route="end-3",method="GET"'
    buckets = [line for line in lines if line.startswith("buildset_registry_request_seconds_buck")]
    assert len(buckets) == len(BUCKET_BOUNDS) + 1
    assert buckets[0].endswith(',le="0.001"} 1')
    assert buckets[5].endswith(',le="0.05"} 2')
    assert buckets[-1].endswith(',le="+Inf"} 3')
    assert f"buildset_registry_request_seconds_count{labels}}} 3" in lines
    assert f"buildset_registry_request_seconds_sum{labels}}} 1000.030200" in lines
    assert f'buildset_registry_sent_bytes_total{labels},status="404"}} 40' in lines
    assert f'buildset_registry_received_bytes_total{labels},status="404"}} 5' in lines
