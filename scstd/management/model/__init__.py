# SPDX-License-Identifier: MIT
"""
What is configured, as a value and as the running system: the attributes that are
no plugin's, names, configurations, and `system.System`, which has every live object.
"""
