# SPDX-License-Identifier: MIT
"""
Objects and attributes as directories and files, in SCST's sysfs layout.

`tree`      finds, reads, writes, runs verbs; one change after the other
`objects`   the root, and which file has what stands below it
`nodes`     what it is made of: directories, files, attributes as files
`mgmt`      ``mgmt`` files and their verbs
`prstate`   persistent reservations as SCST shows and takes them
"""
