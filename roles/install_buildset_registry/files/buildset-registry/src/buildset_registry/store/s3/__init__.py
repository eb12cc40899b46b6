# SPDX-License-Identifier: Apache-2.0
"""The store in a bucket of S3, or of what speaks as S3 does."""
