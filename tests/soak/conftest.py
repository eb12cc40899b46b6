# SPDX-License-Identifier: Apache-2.0
"""What the long tests share."""

import pytest
import trustme


@pytest.fixture(scope="session")
def authority():
    """A certificate authority of the tests' own."""
    return trustme.CA()
