# SPDX-License-Identifier: MIT
"""
One tree of objects and attributes, and its faces: scst.conf, the control socket,
the SSH console and SFTP.

The rooms, from below; each imports only from those above it in this list:

``model``       what is configured, as values: tables of attributes, kinds of value,
                names, configurations
``state``       what outlives the process: the files of the state directory
``monitor``     what happens: events, log, trace, latency; what does not end
``devices``     devices from the opening of their stores to their end
``ports``       target drivers and their portals, LUN maps, device groups (ALUA)
`system`        every live object, and what is about several of them
``grammar``     scst.conf as text, and what SCST's own files have that ours have not
``tree``        objects and attributes as directories and files, in SCST's layout
``config``      configuration files: read, made into a plan, tried, applied, written
``converters``  files of older programs, made into today's
``control``     the control socket, both ends
``console``     the SSH console and SFTP
``cli``         the command-line tools

Beside them: `errors` (refusals with their errno), `paths` (where things are when nobody
says otherwise) and `real_path`.
"""
