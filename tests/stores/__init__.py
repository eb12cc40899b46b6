# SPDX-License-Identifier: Apache-2.0
"""Object stores for tests: real servers, each installed once and started where a test needs it."""
