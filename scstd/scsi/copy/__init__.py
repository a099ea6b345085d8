# SPDX-License-Identifier: MIT
"""
The copy manager: EXTENDED COPY and ROD tokens (SPC-5 section 5.17).
"""
