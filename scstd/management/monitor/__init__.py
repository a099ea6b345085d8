# SPDX-License-Identifier: MIT
"""
What happens, as events, log lines, traces and counters; what does not end.
"""
