# SPDX-License-Identifier: MIT
"""
Configurations from files: read, made into a plan, tried, applied, written.
"""
