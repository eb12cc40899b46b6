# SPDX-License-Identifier: Apache-2.0
"""HTTP in, HTTP out: no storage, no policy.

A request goes ``app`` -> ``routes.match`` -> ``auth`` -> one handler (``blobs``, ``uploads``,
``manifests``, ``listings``, ``tokens``) -> ``response.send``.
"""
