# SPDX-License-Identifier: Apache-2.0
"""Metrics: counters, the Prometheus text format, and the listener for operators."""
