# SPDX-License-Identifier: MIT
"""
RFC 7143, RFC 7144 and RFC 4171 by the sections that have a MUST for a target (number,
title, what there is of it), and SAM-5 where it leaves a choice (what, and what there is
of it); and the tests that show it (``module.Class`` or ``module.Class.test``, under
``scstd.test``; `test_sections` sees that they exist).
"""

from __future__ import annotations

SECTIONS = """\
4.2.1, 4.4.1|Sessions, several connections a session|done: MaxConnections up to 8, 1 by default|test_connections.SeveralTests
4.2.2.1|Command numbering and acknowledging|done: one window and order over all connections; 32-bit serial arithmetic; outside the window nothing is answered; always room for an immediate function, and for an immediate command, of each connection; a function waits for all commands before it, and ABORT TASK SET and CLEAR TASK SET spare those sent after it|test_connection.WindowTests test_connections.SeveralTests.test_order test_wire.SerialTests test_rules.CommandTests test_rules_order.ScopeTests
4.2.2.2|Response/status numbering and acknowledging|done; at level 0 nothing is kept|test_recovery.SNACKTests.test_acknowledged_status
4.2.2.3.2 to 4.2.2.3.4|Response Fence|done: functions that abort several tasks; where TaskReporting is not RFC3720 their unit attentions, CLEAR ACA, what establishes an auto contingent allegiance, ACA ACTIVE, PREEMPT AND ABORT|test_fencing.FenceTests
4.2.2.4|Data sequencing|done: DataSN, R2TSN and offsets are checked; Data-In and R2Ts can be asked for again|test_session.WriteTests.test_wrong_order test_recovery.SNACKTests
4.2.3.1, 4.2.3.2|iSCSI task management; affected tasks|done: answered when the tasks are gone; a target reset is about all LUNs that its session sees|test_session.TaskManagementTests test_task_management.OwnTests
4.2.3.3|Standard multi-task abort|done: a function waits for the commands before it on every connection, and its response is fenced; but Data-Out that was asked for is not waited for, though the section and 11.5.1 would have it: it is dropped when it comes, and no tag is used again. open-iscsi sends none after such a function (FastAbort=Yes, its default, with TaskReporting or without), so a target that waits for it would answer too late|test_rules_order.ScopeTests test_fencing.FenceTests.test_rfc3720 test_session.TaskManagementTests.test_abort_during_data
4.2.3.4, 4.2.3.5|FastAbort multi-task abort; sessions of both kinds at one logical unit|done|test_fast_abort.FastAbortTests
4.2.4|iSCSI login: no PDU but a Login Request first, none but those during it|done|test_connection.WrongTests.test_command_before_login test_connection.WrongTests.test_command_during_login
4.2.5.1|Command connection allegiance|done|test_connections.SeveralTests.test_allegiance test_connections.SeveralTests.test_data_on_another_connection
4.2.5.2|Data transfer: immediate, unsolicited, solicited|done; unsolicited data waits with a command that is early. Its order over several commands is not looked at: each PDU names its command|test_session.WriteTests test_rules_order.EarlyDataTests
4.2.5.3|Tags and integrity checks|done: tags in use, tags nobody gave out, the LUN of Data-Out|test_pitfalls.SequencePitfallTests.test_duplicate_tag test_pitfalls.SequencePitfallTests.test_unknown_transfer_tag test_rules.DataTests.test_lun_of_data_out
4.2.6|iSCSI connection termination|done, a wrong header digest is announced, too; a connection that is given up because its initiator does not respond, or breaks a format, is not announced on itself, but on another|test_asynchronous.AsynchronousTests test_rules.DataTests.test_connection_lost test_connection.WrongTests.test_header_digest
4.2.7|iSCSI names|done, prepared as RFC 3722 says; a target's name is refused in the configuration if no initiator could say it|test_login.LoginTests.test_names test_rules_login.NameTests
4.3|Session types: discovery|done: only texts with SendTargets and the logout of the session; SendTargets=All is answered in a normal session too, with its own target alone, though appendix C forbids it: libiscsi's suite asks for it|test_rules_functions.DiscoveryTests test_rules_login.DiscoveryTests test_discovery.SendTargetsTests
4.4.2|SCSI architecture model: port names in parameter data|done|test_disk_pages.InquiryTests test_transportid.TransportIDTests
4.4.3, 4.4.3.1|Consequences of the model: I_T nexus, ISID and TSIH rules|done|test_connection.LogoutTests test_reinstatement.ReinstatementTests
4.4.3.2|Reservations|done: persistent ones outlive sessions; that of RESERVE stays when its session is continued, but not when another one takes its place, which the section would prefer: it goes with the nexus (section 6.3.5.1), as in SPC-2|test_rules_login.ReservationTests test_aptpl.KillTests
6.1|Text format|done: 64 KiB in a text; values longer than 255 bytes are taken where they are names of nothing|test_keys.TextTests test_negotiation.NegotiationTests.test_key_too_long test_negotiation.NegotiationTests.test_text_too_long
6.2|Text mode negotiation|done: every key, order, cut, repetition; answers are no offers, and what the RFC has us declare is understood; a value that is rejected leaves the key as it was, and the login goes on|test_negotiation.NegotiationTests test_rules_login.TextTests
6.3, 6.3.1|Login phase, its start|done: stages, names, ISID, TSIH and CID, portal group tag (where a target is named: section 13.9). A key in the wrong stage is answered with Reject, and the login goes on; who an initiator is it may say again, for some do|test_login.LoginTests test_rules_login.LoginTests test_negotiation.NegotiationTests.test_repeated test_rules_functions.DiscoveryTests.test_named
6.3.2|Security negotiation|done, AuthMethod None and CHAP|test_access.CHAPTests test_negotiation.NegotiationTests.test_security_stage_first
6.3.3|Operational parameter negotiation during the login phase|done|test_negotiation.NegotiationTests test_login.LoginTests.test_long_answer
6.3.4|Connection reinstatement|done; waits for the old connection's tasks below level 2|test_reinstatement.ReinstatementTests.test_connection_reinstatement test_reinstatement.ReinstatementTests.test_reinstatement_fails test_reassignment.ReassignTests.test_reinstatement
6.3.5|Session reinstatement, closure and timeout|done; waits for the old session's tasks|test_reinstatement.ReinstatementTests.test_session_reinstatement test_reinstatement.ReinstatementTests.test_retention
6.3.6|Session continuation and failure|done, where DefaultTime2Retain is configured above 0|test_reinstatement.ReinstatementTests.test_continuation
6.4|Operational parameter negotiation outside the login phase|done: all of a sequence or nothing|test_negotiation.FullFeatureTests test_discovery.SendTargetsTests
7.1.3, 7.1.4.1|What is kept for recovery; recovery within a command|done at levels 1 and 2; of Data-In that is not acknowledged a connection keeps 32 MiB, and all of a node 256 MiB, then a SNACK for the oldest is rejected|test_recovery.DataOutTests test_recovery.SNACKTests
7.1.4.2|Recovery within a connection|done at levels 1 and 2|test_recovery.SNACKTests.test_status test_recovery.DataOutTests.test_repeated_command
7.1.4.3|Connection recovery|done at level 2; a lost connection is told of on another|test_reassignment.ReassignTests test_recovery.ScheduleTests.test_level_2 test_rules.DataTests.test_connection_lost
7.1.4.4|Session recovery|done|test_recovery.ScheduleTests.test_level_0
7.2.1|Usage of retry|done: a command that has come is ignored|test_recovery.DataOutTests.test_repeated_command
7.2.2|Allegiance reassignment|done at level 2; a task whose data was given up ends as one whose SNACK is rejected (0Bh/11h/13h)|test_reassignment.ReassignTests test_rules_functions.FunctionTests test_rules_order.ReassignTests
7.3|Usage of Reject in recovery|done: the CmdSN of a rejected command is not taken|test_rules.CommandTests test_bidirectional.WrongTests test_recovery.DataOutTests.test_damaged_immediate_data
7.4.1|ErrorRecoveryLevel for discovery sessions|done: 0|test_rules_functions.DiscoveryTests.test_level
7.4.2|Reinstatement semantics for discovery sessions|done, but that discovery which names a target never takes a normal session's place: who may discover has not proved that it may log in|test_rules_functions.DiscoveryTests.test_reinstatement test_rules_login.DiscoveryTests.test_joining_ends_no_discovery
7.4.3|Target PDUs during discovery|done: answers and Rejects alone|test_rules_login.DiscoveryTests
7.5|Connection timeout management|done: Time2Wait and Time2Retain, the latter no longer than configured, which is 0 at first: an initiator that does not offer the key would have the RFC's 20 seconds by default, and its reservations with them. A session of SCST ends with its connection, too|test_reassignment.ReassignTests.test_timed_out
7.6|Implicit termination of tasks|done; told by 47h/7Fh|test_connections.SeveralTests.test_one_fails
7.7|Format errors|a segment that is longer than declared: Reject, and all connections of the session end. An illegal value in one request is answered by Reject alone: reserved codes are a protocol error (section 11), others an invalid field (section 11.17.1)|test_rules.DataTests.test_format_error test_pitfalls.SequencePitfallTests.test_oversized_segment
7.8|Digest errors|header: the connection is closed at every level, for there is no way to find the next PDU; data: Reject; at level 0 a command with damaged immediate data is not rejected but fails (0Bh/47h/05h), as in SCST: a gap in CmdSN would stop the session|test_recovery.DataOutTests test_functions.BoundTests.test_digest_of_data_out test_rules_order.DamagedTests test_rules_order.WaitingTests test_pitfalls.DigestPitfallTests
7.9|Sequence errors|done: recovery R2T at levels 1 and 2, for what is lost and the rest of its burst; the command fails at 0|test_recovery.DataOutTests.test_lost test_pitfalls.SequencePitfallTests.test_invalid_data_sn
7.11|SCSI timeouts: ABORT TASK of what has not arrived|done|test_session.TaskManagementTests test_rules_order.ScopeTests.test_abort_out_of_the_window
7.12|Negotiation failures|done: an impossible declaration ends the login, and so does AuthMethod; any other key whose value is rejected stays as it was, and its initiator may go on or not (section 6.2)|test_negotiation.NegotiationTests.test_impossible_declarations test_negotiation.FullFeatureTests.test_all_or_nothing
7.13|Protocol errors|done|test_connection.WrongTests test_hostile.HostileTests
7.14|Connection failures|done: immediate commands end with their connection|test_rules_functions.FunctionTests.test_immediate_commands_are_lost test_connections.SeveralTests.test_one_fails
7.15|Session errors|done|test_reinstatement.ReinstatementTests
8.1|Standard connection state diagrams (T3 to T13, T15 to T18)|done, one table, and every row of it is walked|test_states.ConnectionStateTests test_state_steps.StepTests
8.2|Connection cleanup state diagram (M1 to M4)|done, the same table|test_states.ConnectionStateTests test_state_steps.StepTests
8.3|Session state diagrams (N1 to N3, N5 to N11)|done, one table, and every row of it is walked|test_states.SessionStateTests test_state_steps.StepTests
9.2|In-band initiator-target authentication: statuses of wrong, missing and malformed keys; one method and one user for all connections of a session|done; a user is not tied to an iSCSI name (a SHOULD): accounts are a target's, as in SCST, and a group of initiators goes by the name|test_access.CHAPTests.test_chap_pitfall_refused test_access.CHAPTests.test_incomplete test_access.CHAPTests.test_identity_of_a_session
9.2.1|CHAP considerations: 128 random bits, 96 at least, two secrets for two directions, reflection|done; IPsec is not ours: a secret below 12 bytes is refused in the configuration. A secret for both directions is refused at one target; over several, or of two users, it is warned of, for the next change may part them|test_access.CHAPTests.test_secret_of_both test_access_settings.SettingsTests
9.3|IPsec|absent: section 9.3 lets it be another part of the device, and here it is the operating system's; TLS portals besides|test_tls.TLSTests
9.4, 13.26|X#NodeArchitecture|known, as section 6.2 wants every key of the RFC: never sent, and not answered, for it is a declaration|test_keys.NegotiationTests test_rules_login.TextTests.test_node_architecture
10.7|Multi-task abort: late Data-Out is dropped without a word|done, for the last 1024 tasks|test_fast_abort.FastAbortTests test_functions.BoundTests
12.1.1, 12.1.2|Kerberos, SRP|refused: status 0201h|test_login.LoginTests.test_statuses test_access.CHAPTests.test_chap_pitfall_skipped
12.1.3|CHAP: MD5, SHA1, SHA-256, SHA3-256, mutual, values up to 1024 bytes|done|test_access.CHAPTests
11|Reserved codes in defined fields: task attribute, AHSType, logout reason, SNACK type, stage, the format of an ISID|a protocol error: Reject, or status 0200 in the login; reserved bits and fields are ignored, and sent as 0|test_rules.DataTests.test_reserved_attribute test_rules.DataTests.test_isid test_rules.DataTests.test_reserved_fields test_rules.CommandTests.test_rejected_command_leaves_a_gap test_pitfalls.SequencePitfallTests.test_header_segments test_recovery.SNACKTests.test_unknown_type
11.2.1|Basic Header Segment: opcodes, lengths|done|test_connection.WrongTests.test_unknown_opcode test_pitfalls.SequencePitfallTests.test_oversized_segment
11.2.2|Additional Header Segments|done: Extended CDB, Bidirectional Read Expected Data Transfer Length|test_bidirectional.AHSTests test_session.TaskManagementTests.test_extended_cdb
11.3|SCSI Command|done, bidirectional commands too; R and W without the segment that goes with them: Reject|test_bidirectional.WireTests test_bidirectional.WrongTests
11.4|SCSI Response|done; ExpDataSN (Data-In alone: 0 for a write), residuals in both directions, MaxCmdSN in a NOP-In where no answer carries it|test_session.ReadTests.test_residuals test_recovery.DataOutTests.test_r2ts_are_not_counted test_rules.DataTests.test_exp_data_sn_of_a_write test_rules.CommandTests.test_max_cmd_sn_is_told
11.4.7.2|Sense data of iSCSI conditions|done: unexpected unsolicited data, incorrect amount of data, CRC error. SNACK rejected only for a reassigned task whose data was given up: else the status was sent before|test_rules.DataTests.test_unsolicited_data_short_of_first_burst test_rules.DataTests.test_unsolicited_data_beyond_first_burst test_session.WriteTests.test_burst_too_short test_pitfalls.SequencePitfallTests.test_more_than_the_r2t_asked_for
11.5, 11.6|Task management functions|done; CLEAR ACA on another nexus than the faulted one: function rejected; a text can be aborted; functions and logouts are neither aborted nor reassigned|test_rules_functions.FunctionTests test_session.TaskManagementTests test_reassignment.ReassignTests test_allegiance_cleared.ClearingTests
11.7|SCSI Data-Out and Data-In|done, the A bit at levels 1 and 2; no sequence is longer than MaxBurstLength; whole words but at its end|test_rules.DataTests.test_words test_rules.DataTests.test_no_data test_session.ReadTests.test_cut test_recovery.SNACKTests.test_data_ack test_pitfalls.SequencePitfallTests.test_sequence_is_no_longer_than_max_burst
11.8|Ready To Transfer|done, recovery R2Ts at levels 1 and 2|test_session.WriteTests test_recovery.DataOutTests.test_damaged
11.9|Asynchronous Message|done: SCSI event (LUNs, capacity, INQUIRY data; the unit attention stays; INQUIRY does not announce it, for the bit is gone from SPC since SPC-3: SCST does so too), logout request, connection and session drop, negotiation request, task termination (with FastAbort)|test_rules.DataTests.test_time_to_reassign test_asynchronous.AsynchronousTests test_asynchronous.EventTests test_dismissal.DismissalTests test_fast_abort.FastAbortTests
11.10, 11.11|Text|done, at most 64 KiB; a Target Transfer Tag that is not valid: Reject (invalid PDU field)|test_discovery.SendTargetsTests test_negotiation.FullFeatureTests
11.12, 11.13|Login Request and Response|done|test_login.LoginTests
11.14, 11.15|Logout|done: session, connection, removal for recovery at level 2; Time2Retain is 0 for what was closed|test_rules_functions.FunctionTests.test_logout_is_no_task test_rules_functions.FunctionTests.test_time_to_reassign_after_a_logout test_connections.SeveralTests.test_logout_of_one test_reassignment.ReassignTests.test_live_removal test_connection.LogoutTests
11.16|SNACK: Data/R2T, Status, DataACK, R-Data|done at levels 1 and 2; refused at 0: Reject. What was not sent is a protocol error; but a Status SNACK for what comes next finds nothing, as in appendix D.3.3|test_recovery.SNACKTests test_bidirectional_recovery.RecoveryTests test_rules.SNACKTests
11.17|Reject: reasons, the next DataSN or R2TSN, the whole header|done|test_connection.WrongTests test_rules.SNACKTests.test_never_sent test_pitfalls.SequencePitfallTests.test_header_segments test_pitfalls.SequencePitfallTests.test_oversized_segment
11.18, 11.19|NOP-Out, NOP-In, the target's own ping|done|test_connection.PingTests
13.1 to 13.22|Login/text operational keys|done, each by its result function|test_keys.NegotiationTests test_negotiation.NegotiationTests
13.8|TargetAddress: no portal group tag in a redirection, one in SendTargets|done|test_access_settings.SettingsTests.test_redirect test_discovery.SendTargetsTests
13.14, 13.19|FirstBurstLength below MaxBurstLength, and no more unsolicited data than that; one R2T at a time above level 0|done|test_negotiation.NegotiationTests.test_any_order_and_split test_rules.DataTests.test_unsolicited_data_beyond_first_burst test_rules.DataTests.test_immediate_data_beyond_first_burst
13.20|ErrorRecoveryLevel|done: 0, 1, 2; 0 by default|test_recovery.ScheduleTests
13.23|TaskReporting|done: RFC3720, ResponseFence, FastAbort; the first that the initiator lists|test_fencing.NegotiationTests
13.24|iSCSIProtocolLevel|done: 2|test_functions.QueryTests
13.25|Obsoleted keys: markers|refused: No, which that section allows (it would rather have Reject), and Reject for their intervals|test_keys.NegotiationTests.test_results
Appendix A.4|CRC examples|done|test_wire.DigestTests
Appendix C|SendTargets operation|done; All in a normal session too (see 4.3)|test_discovery.SendTargetsTests
Appendix E|Clearing effects|done, but what waits for an earlier CmdSN goes with a connection that fails (as it does when its time is over): its initiator has to send it again either way. TARGET COLD RESET keeps persistent reservations: an initiator is not to take away another's|test_connections.SeveralTests test_session.TaskManagementTests.test_cold_reset
RFC 7144 4.1|Negotiation of new feature use|done: the functions are rejected and PRI is ignored below iSCSIProtocolLevel 2|test_functions.QueryTests.test_only_at_level_2 test_priority.TaskSetTests
RFC 7144 4.2|Version descriptor in standard INQUIRY data|done: 0960h and the level|test_functions.QueryTests.test_version
RFC 7144 5.1.1|Command priority|done|test_priority.TaskSetTests test_priority.StoreTests
RFC 7144 5.2.1|Status qualifier|always 0: there is no telling how long a unit will be busy|test_functions.QueryTests.test_status_qualifier
RFC 7144 6.3|QUERY TASK, QUERY TASK SET, QUERY ASYNCHRONOUS EVENT|done; QUERY TASK takes over a task whose connection was logged out for recovery|test_functions.QueryTests test_reassignment.ReassignTests.test_query
RFC 7144 6.3, 6.5|I_T NEXUS RESET|done: the session and all its connections end, after an answer for which there may be no time|test_functions.QueryTests.test_nexus_reset test_reassignment.ReassignTests.test_nexus_reset
RFC 7144 6.4.2|Function succeeded, additional response information|done: which unit attention is reported first, and whether there are more|test_functions.QueryTests.test_query_asynchronous_event
RFC 4171 section 4.1|What an iSCSI device has to have|done, but not what creates and changes discovery domains, nor DevGetNext: that is for who manages the network. Portal groups are the ones that the server makes by itself, with tag 1|test_isns.ClientTests
RFC 4171 sections 5.1 to 5.4, 6.2|Messages: header, order and lengths of attributes, statuses|done; a status that is no success ends the connection, and it is tried again|test_isns.MessageTests test_isns.ClientTests.test_registration test_isns.ClientTests.test_names test_isns_server.UnwillingTests
RFC 4171 sections 5.6.1, 5.6.5.1 to 5.6.5.4|Registration, queries, deregistration: who is the source|done: a target that is registered; nothing without one|test_isns.ClientTests test_isns_server.RealServerTests
RFC 4171 sections 5.6.5.5, 5.6.5.8, 5.6.5.13, 6.4.4|Notices and status inquiries|done, on either connection; only notices for storage nodes are asked for; where the server has no inquiries we do without|test_isns.ListenerTests test_isns.ClientTests.test_without_inquiries
RFC 4171 section 6.2.6|Registration period|done: the server hears of us twice as often|test_isns.ClientTests.test_registration_period
RFC 4171 section 2.2.2|Login control by discovery domains|done: the initiators of a target's domains; what the server said last holds while it is not there|test_isns.ClientTests.test_forgotten test_isns_server.RealServerTests"""
"""The sections; one line each, fields between bars."""

TASK_MODEL = """\
Auto contingent allegiance: NACA, NORMACA, the ACA attribute|done; TMF_ONLY too. A command that the store is at work for when the condition is established is carried out, and its answer is held. BUSY and ACA ACTIVE with TST=0; with TST=1 each nexus has a condition of its own|test_allegiance.ArrivalTests test_allegiance_established.EstablishingTests
What clears it|done: CLEAR ACA, resets, I_T NEXUS RESET, the loss of the nexus, an ACA command that ends with CHECK CONDITION and NACA=0; also a LUN that is removed|test_allegiance_cleared.ClearingTests
PREEMPT AND ABORT while there is one|done|test_allegiance_preempting.PreemptingTests
Command priority|SIMPLE commands that wait in the task set (behind ORDERED and HEAD OF QUEUE ones, for auto contingent allegiance, at a suspended device) start by priority, and so do reads of what is not cached, which wait for a thread of the store. Elsewhere the order of arrival stands: of writes that wait for their data, for the thread that writes, and of what waits for a range lock. Commands without a priority are as those of 8. No priorities for nexuses: SET PRIORITY and REPORT PRIORITY are absent, INITIAL COMMAND PRIORITY is 0|test_priority.TaskSetTests test_lanes.LaneTests
QERR, TAS|done; a unit attention aborts nothing|test_task_management.QueueErrorTests"""
"""What there is of SAM-5's task model, beside the attributes and the functions."""
