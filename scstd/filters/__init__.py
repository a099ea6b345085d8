# SPDX-License-Identifier: MIT
"""
Filters, one a file: a filter wraps a backstore and overrides what it changes.
"""
