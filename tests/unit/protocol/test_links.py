# SPDX-License-Identifier: Apache-2.0
"""Pages of a list name the next one as RFC 8288 and registries write it."""

import time

import pytest
from buildset_registry.protocol.links import next_link


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</v2/app/referrers/sha256:1?n=2>; rel="next"', "/v2/app/referrers/sha256:1?n=2"),
        ("</v2/_catalog?last=b> ; rel=next", "/v2/_catalog?last=b"),
        ('</before>; rel="prev", </after>; REL="next"', "/after"),
        ('</before>; rel="prev"', None),
        (
            '</v2/app/tags/list?last=a,b>; title="c, d; rel=prev"; rel="next"',
            "/v2/app/tags/list?last=a,b",
        ),
        ('<?last=a>; rel="last next"', "?last=a"),
        ('</a>; rel="prev"; title="<b>; rel=next"', None),
        ('</a>; title="\\"; rel=next"', None),
        ("<" * 60_000, None),
        ('</a>; title="' * 5_000, None),
        ("", None),
        (None, None),
    ],
)
def test_a_header_names_the_next_page(header: str | None, target: str | None) -> None:
    """Or none, at the last one."""
    assert next_link(header) == target


def test_a_string_that_does_not_end_is_looked_at_once() -> None:
    """As long as a header may be: it took twenty seconds, in which nothing else is done."""
    begun = time.process_time()
    assert next_link('</a>; title="' + '\\"' * 32_000) is None
    assert next_link('"' + '\\"' * 32_000 + "\\") is None
    assert time.process_time() - begun < 2
