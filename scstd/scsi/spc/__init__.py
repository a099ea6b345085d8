# SPDX-License-Identifier: MIT
"""
Primary commands and pages (SPC-5): what devices of every type answer.
"""
