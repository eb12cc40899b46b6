# SPDX-License-Identifier: Apache-2.0
"""Certificates by ACME (RFC 8555): ordered, kept where all replicas find them, and renewed.

A replica orders, with the challenge HTTP-01; all answer the authority's question, and all show what
it got. ``client`` alone knows the library.
"""
