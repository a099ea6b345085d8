# SPDX-License-Identifier: MIT
"""
What other targets got wrong, by where the fault is, and the tests that show that it is
not wrong here (``module.Class`` or ``module.Class.test``, under ``scstd.test``;
`test_pitfalls_table` sees that they exist).  A dash and a reason where there is nothing
to test.

Names with a number are threads in the trackers of the projects where it was found.
"""

from __future__ import annotations

PITFALLS = """\
Login|unknown keys, X- keys, wrong values (spdk#2416)|test_pitfalls.LoginPitfallTests.test_unknown_key test_pitfalls.LoginPitfallTests.test_irrelevant_or_reject_as_a_value
Login|InitiatorName repeated (libiscsi#196)|test_pitfalls.LoginPitfallTests.test_name_repeated test_pitfalls.LoginPitfallTests.test_another_name_in_the_same_login
Login|CHAP: long values, hex and base64, reflection, replayed identifiers, one way and mutual|test_access.CHAPTests test_suite_logins.LoginTests
Login|session and connection reinstatement, unknown TSIH, login loops (jSCSI#24, gotgt#31, istgt)|test_reinstatement.ReinstatementTests test_pitfalls.LoginPitfallTests.test_login_loop_of_a_dead_initiator
Login|SessionType or TargetName missing (iscsi-osx#84)|test_pitfalls.LoginPitfallTests.test_no_session_type test_login.LoginTests.test_missing
Login|discovery: All, a name, nothing; only what the initiator may see|test_discovery.SendTargetsTests
Login|portals: IPv6 brackets, tags, wildcards not told|test_discovery.SendTargetsTests.test_portals test_pitfalls_more.PortalTests test_real_initiators.FilesystemTests.test_ipv6
Login|redirection before and after authentication (open-iscsi#117)|test_access.GateTests.test_redirect test_access_settings.RealTests.test_redirect
Login|text split over PDUs, invalid NSG, login timeout|test_login.LoginTests.test_split_key test_pitfalls.LoginPitfallTests.test_invalid_next_stage test_connection.PingTests.test_slow_login
Login|half-open connections bounded|test_pitfalls.LoginPitfallTests.test_half_open_connections
Login|login to a target that is being removed (tgt)|test_pitfalls.LoginPitfallTests.test_target_removed_during_login
Login|two hosts with one name (rancher/os#2446)|test_pitfalls.LoginPitfallTests.test_two_hosts_with_one_name
Login|no LUN at login, one later: unit attention and event (open-iscsi#31, libiscsi#156)|test_pitfalls.LoginPitfallTests.test_lun_added_later test_asynchronous.EventTests.test_luns test_asynchronous.RealTests
Sequences|CmdSN outside the window, immediate commands, wrap (libiscsi#342, spdk#2416)|test_pitfalls.SequencePitfallTests.test_cmd_sn_too_low_or_too_high test_pitfalls.SequencePitfallTests.test_immediate_is_not_counted test_connection.LifeTests.test_both_directions_wrap test_wire.SerialTests
Sequences|DataSN, offsets, too much data, unknown tags, FirstBurstLength (spdk#1098, #788, #405, openebs#1319)|test_pitfalls.SequencePitfallTests test_session.WriteTests
Sequences|residuals of both directions, expected length 0 (targetcli-fb#194, libiscsi#345, #370)|test_session.ReadTests test_pitfalls.SequencePitfallTests.test_expected_length_of_zero test_pitfalls.SequencePitfallTests.test_overflow_writes_no_more_than_expected
Sequences|a task tag that is in use (open-iscsi#56)|test_pitfalls.SequencePitfallTests.test_duplicate_tag test_connections.SeveralTests.test_tag_in_use_elsewhere
Sequences|digests: header, data, padding, AHS, Reject, from which PDU on|test_pitfalls.DigestPitfallTests test_connection.WrongTests.test_header_digest test_connection.WrongTests.test_digest_of_ping test_recovery.DataOutTests
Sequences|pings: answers, timeout, leaks, during the login, echo limited (tgt)|test_connection.PingTests test_pitfalls_end.EndPitfallTests.test_unsolicited_nop_in_is_not_kept test_pitfalls.LoginPitfallTests.test_nop_during_login test_pitfalls.SequencePitfallTests.test_echo_is_limited
Sequences|MaxRecvDataSegmentLength each way, refused before allocation, AHS|test_pitfalls.SequencePitfallTests.test_limits_of_both_directions test_pitfalls.SequencePitfallTests.test_oversized_segment test_pitfalls.SequencePitfallTests.test_header_segments test_session.TaskManagementTests.test_extended_cdb
Sequences|logout with tasks, PDUs after it, a drop during Data-Out (spdk#725, tgt#24)|test_connection.LogoutTests test_pitfalls_end.EndPitfallTests
Task management|ABORT TASK: done, unknown, on its way; no answer of an aborted task|test_session.TaskManagementTests test_pitfalls_end.EndPitfallTests.test_no_response_for_an_aborted_task
Task management|sets and resets with other initiators, TAS 0 and 1|test_task_management.OwnTests test_task_management.OtherTests test_session.TaskManagementTests.test_task_aborted_status
Task management|unit attentions: each once, precedence, what does not take them|test_luns.AttentionTests test_unit.GateTests
Task management|an abort while the store is stuck (tcmu#6, #315)|test_pitfalls_end.EndPitfallTests.test_backend_is_stuck test_task_management.AbortOrderTests.test_abort_while_store_hangs
Task management|stale writes after an abort or a failover (tcmu#420, #384)|test_pitfalls_end.EndPitfallTests.test_stale_write test_alua_transition.TransitionTests.test_no_stale_write_after_failover test_reinstatement.ReinstatementTests.test_stale_write
Identity|VPD 80h and 83h: present, unique, stable, the same on all paths (wnbd#78, genestack#451, resource-agents#1463)|test_identity.PitfallTests test_identity_kept.ConfiguredTests test_disk_pages.IdentityTests
Identity|allocation lengths 0, 1, two bytes (libiscsi#285, gotgt, SCST)|test_identity.PitfallTests.test_allocation_length_bounds test_identity.PitfallTests.test_allocation_length_has_two_bytes
Identity|REPORT LUNS without LUN 0, well known LUN, absent LUNs, LUNs above 255|test_luns.ReportTests test_identity.PitfallTests.test_missing_lun test_pitfalls_more.ManyTests
Identity|mode pages: caching, control, all, DBD, changeable, saved, reserved (gotgt#79, curve-tgt#1, ceph-nvmeof#158)|test_mode_pages.EveryPageTests test_mode_select.SenseTests test_mode_select.SelectTests
Identity|what REPORT SUPPORTED OPERATION CODES says is what there is|test_identity.PitfallTests.test_supported_opcodes_are_those_there_are test_disk_pages.InquiryTests.test_supported_functions
Blocks|READ CAPACITY above 2 TiB, READ(6) of 0 blocks, length 0, range at 2^64, the last block|test_pitfalls_more.EdgeTests test_disk.TransferTests
Blocks|block sizes; a file that is no multiple, or shrinks under I/O (openebs#1387)|test_handlers.FileTests.test_rest test_space.ShorterTests test_disk.TransferTests.test_four_kilobytes test_real_initiators.FilesystemTests.test_four_kilobytes
Blocks|WRITE SAME: NDOB, ANCHOR, 0 blocks, its limit|test_disk.RangeTests.test_write_same test_disk.RangeTests.test_write_same_zeros test_disk.RangeTests.test_write_same_wrong
Blocks|COMPARE AND WRITE: atomic, offset of the miscompare, too much data (SCST)|test_contention.CounterTests test_disk.RangeTests.test_compare_and_write test_unit.LockTests
Blocks|UNMAP: lists that do not add up, limits, unaligned ranges, read only (tcmu#240, #325, spdk#351)|test_disk.RangeTests.test_unmap test_disk.RangeTests.test_unmap_wrong test_reservations.MatrixTests test_disk_medium.StatusTests
Blocks|FUA and SYNCHRONIZE CACHE reach the medium; cache off; a failed flush stays failed|test_disk.TransferTests.test_fua test_mode_pages.ActsTests.test_write_cache test_disk_medium.FlushTests test_space.FlushTests test_handlers.FileTests.test_durable
Blocks|WRITE ATOMIC, SANITIZE, VERIFY, PRE-FETCH, ORWRITE; read only|test_block.AtomicTests test_erase.SanitizeTests test_disk.RangeTests.test_verify test_disk_medium.PrefetchTests test_disk.TransferTests.test_read_only
Reservations|generation, full status, ignore, all registrants, SPEC_I_PT, ALL_TG_PT, move, new ISID (spdk#989, fence-agents#517)|test_persistent.RegisterTests test_persistent.MoveTests test_persistent.InTests test_transportid.SpecifiedTests test_transportid.IgnoredISIDTests
Reservations|PREEMPT AND ABORT waits for what it aborts|test_preempting.AbortTests test_meeting.ConnectionsTests.test_preempted_while_data_is_collected
Reservations|APTPL over a restart and a kill|test_aptpl.RestartTests test_aptpl.DurableTests test_aptpl.KillTests
Reservations|RESERVE(6) beside persistent ones; released by reset and logout|test_reservations.BothKindsTests
Reservations|fencing and arbitration of clusters, sg_persist (spdk#1414)|test_preempting.ClusterTests test_sg.ToolTests
Access states|formats, bad groups, what unavailable and standby let through, thrash (tcmu#355)|test_alua.ReportTests test_alua.SetTests test_alua.GateTests test_meeting.AccessMeetsTests
Copies|limits, overlap, block sizes, abort, results, tokens that expire|test_copy_lists.ParameterListTests test_copy.OverlapTests test_copy.ExtendedCopyTests.test_block_size_mismatch test_copy_abort.AbortMidCopyTests test_copy.ReceiveCopyResultsTests test_copy_tokens.ValidityTests test_meeting.LeavingTests
Tape|data longer than a block, filemarks, changers (tgt)|- there is no tape device and no changer
CD|events, TOC, eject with a lock, media that change|test_medium.EventTests test_cdrom_features.DiscTests test_medium.EjectTests test_medium.ChangeTests test_meeting.MediumTests
Operation|removing what is in use, portals under sessions, bad files, round trips (targetcli#144)|test_lun_changes.AnyChangeTests test_tree_live.LiveTests test_plan.PlanTests test_plan.WritingTests test_live.RealTests.test_reloads test_dismissal.DismissalTests
Operation|resizing under I/O, two initiators|test_meeting.ResizeTests test_tree_live.LiveTests.test_resize test_asynchronous.TreeTests.test_resize test_live.RealTests.test_resize
Operation|full stores, thresholds, errors that name the block|test_space.FullTests test_space.ThresholdTests test_disk_medium.PlaceTests
Operation|a store slower than the initiator's patience|test_pitfalls_end.EndPitfallTests.test_backend_is_stuck test_neighbours.NeighbourTests.test_slow_store
Operation|leaks, many sessions, many LUNs, slow readers, bounded memory (kubevirt#4178)|test_soak.SoakTests test_neighbours.NeighbourTests test_session.WriteTests.test_budget test_pitfalls_more.ManyTests
Operation|fuzz: login, BHS, AHS, CDBs, parameter lists|test_primary_fuzz.FuzzTests test_copy_lists.ParameterListTests.test_fuzz test_persistent.RandomTests test_neighbours.NeighbourTests.test_hostile test_connection.WrongTests
Operation|bytes as other programs read them|test_decoders.DecoderTests test_dissector.DissectorTests test_sg.ToolTests
Initiators|libiscsi, qemu, sg3_utils, real file systems|test_real_initiators.FilesystemTests test_real_initiators.WorkTests test_real_initiators.SuiteTests
Initiators|Windows, ESXi, macOS, FreeBSD, Solaris, iPXE|- they cannot run here; what they are known to ask for is in the lines above"""
"""The pitfalls; one line each, fields between bars."""
