# SPDX-License-Identifier: MIT
"""
The process that the service runs in: its signals and its end, its log, who holds its
reactor, what the service manager hears, and the command of `--run`.
"""
