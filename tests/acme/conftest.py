# SPDX-License-Identifier: Apache-2.0
"""The object stores that replicas share."""

from tests.stores.fixtures import object_stores as object_stores
