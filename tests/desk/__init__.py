# SPDX-License-Identifier: Apache-2.0
"""A desk in a company: an ordinary user, a mirror of packages, a proxy, a CA of their own."""
