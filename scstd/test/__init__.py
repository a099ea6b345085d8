# SPDX-License-Identifier: MIT
"""
Tests: test_<module>.py for each module, and suites by behaviour.
"""
