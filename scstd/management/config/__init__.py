# SPDX-License-Identifier: MIT
"""
Configurations from files: read, made into a plan, tried, applied, written.

`reading`     files to configurations; `blocks`: what may stand in which block
`plan`        two configurations to steps, with `conflicts`, of LUN maps `lunplan`, of
              device groups `groupplan`; `running`: what it asks of devices that run
`steps`       what a plan is made of
`rehearsal`   a plan carried out in a system that opens nothing: a check
`applying`    carrying one out, and going back
`writing`     a configuration to text
"""
