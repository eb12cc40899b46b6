# SPDX-License-Identifier: Apache-2.0
"""HTTP in, HTTP out: no storage, and no policy but what ``auth`` decides.

A request goes ``app`` -> ``routes.match`` -> ``auth`` -> one handler (``blobs``, ``uploads``,
``manifests``, ``discovery``, ``tokens``, ``health``) -> ``response.send_response``.
"""
