# SPDX-License-Identifier: MIT
"""
scst.conf as text.

`scstconf`       words, quotes, comments and blocks, with their places
`scst_dialect`   what SCST writes otherwise than we do, put as ours
`scst_words`     what SCST has and we do not, a row a word
"""
