# SPDX-License-Identifier: MIT
"""
The state directory: what devices remember, and files that outlive a crash.
"""
