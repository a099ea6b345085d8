# SPDX-License-Identifier: MIT
"""
libiscsi's conformance suite, judged strictly: ``python -m scstd.test.suite``.

iscsi-test-cu counts what it skips as passed, marks some skips only in its verbose log
and some not at all, and aborts or hangs now and then.  So each case runs as a process
of its own, on a pseudo-terminal (or its output is lost), with a time limit, and is
judged by what it logged: passed, failed, skipped or timed out.  What is served, and
which cases need not pass on it and why, is in `scstd.test.setups`; what does not pass
is printed with its reason.

No kind of LUN can do it all.  ``--summary`` takes one after the other, and counts the
cases that passed on at least one of them.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fnmatch
import functools
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import attrs

from scstd.test.clients import find
from scstd.test.serving import Server, free_port
from scstd.test.setups import NEVER, SETUPS, must_pass, reason, wanted_on

LIMIT = 240.0
"""Seconds that a case may take, also on a busy machine: what takes longer hangs."""


@attrs.frozen
class Outcome:
    """
    How a case ended: passed, failed, skipped or timed out; why; its log.
    """

    case: str
    verdict: str
    why: str
    seconds: float
    log: str = attrs.field(repr=False, default="")


def cases() -> list[str]:
    """
    Return every case of the SCSI and iSCSI families.
    """
    tool = find("iscsi-test-cu")
    assert tool is not None
    listed = subprocess.run([tool, "-l"], capture_output=True, text=True, check=False)
    names = (line.strip() for line in (listed.stdout + listed.stderr).splitlines())
    return [
        name
        for name in names
        if name.count(".") == 2 and name.startswith(("SCSI.", "iSCSI."))
    ]


_HURRY = """\
#include <dlfcn.h>
unsigned sleep(unsigned seconds)
{
    unsigned (*real)(unsigned) = (unsigned (*)(unsigned))dlsym(RTLD_NEXT, "sleep");
    return real(seconds > 9 ? 1 : seconds);
}
"""


@functools.cache
def hurry() -> dict[str, str]:
    """
    Return an environment in which the tool looks again after a second where it would
    after a minute: SCSI.Sanitize.Reset waits for the end so.
    """
    compiler = find("cc")
    if compiler is None:
        return {**os.environ}
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory)
    made = f"{directory}/hurry.so"
    command = [compiler, "-D_GNU_SOURCE", "-shared", "-fPIC", "-xc", "-", "-o", made]
    subprocess.run([*command, "-ldl"], input=_HURRY, text=True, check=True)
    return {**os.environ, "LD_PRELOAD": made}


def _on_terminal(
    command: Sequence[str], limit: float, environment: dict[str, str]
) -> tuple[int | None, str]:
    """
    Return the status (None: killed after *limit* seconds) and the output of a command
    run on a pseudo-terminal.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    pieces: list[bytes] = []
    end = time.monotonic() + limit
    timed_out = False
    while True:
        left = end - time.monotonic()
        if left <= 0:
            timed_out = True
            process.kill()
            break
        readable, _, _ = select.select([master], [], [], left)
        if not readable:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    status = process.wait()
    os.close(master)
    text = b"".join(pieces).decode(errors="replace").replace("\r", "")
    return (None if timed_out else status), text


_DETAILS = (
    "LUN too small. Skipping assert",
    "No alignment/granularity restrictions",
    "No alignment restrictions on this LUN",
    "No granularity restrictions on this LUN",
)
_DETAILS_OF = dict.fromkeys(
    ("SCSI.Sanitize.Readonly", "SCSI.Sanitize.Reservations"),
    # One of several that they try; of SCSI.Sanitize.CryptoErase it is all.
    "SANITIZE CRYPTO_ERASE is not implemented",
)
_SILENT_SKIPS = (
    "SWP is not changeable",
    "CONTROL page was not returned",
    "Could not read BlockDeviceCharacteristics",
    "does not support RTPG",
)


def judge(case: str, status: int | None, text: str, seconds: float) -> Outcome:
    """
    Return how a case ended, from the tool's exit status and its log.
    """
    name = case.rsplit(".", 1)[1]
    match = re.search(
        rf"^  Test: {re.escape(name)} \.\.\.(|.*?\n)(passed|FAILED)",
        text,
        re.DOTALL | re.MULTILINE,
    )

    def outcome(verdict: str, why: str = "") -> Outcome:
        return Outcome(case, verdict, why, seconds, text)

    if status is None:
        return outcome("timed out", f"no end after {seconds:.0f} s")
    if status < 0:
        return outcome("failed", f"the tool died of signal {-status}")
    if match is None:
        last = text.strip().splitlines()[-1:] or [""]
        return outcome("failed", f"did not run: {last[0].strip()}")
    log = match[1]
    if match[2] == "FAILED":
        asserts = re.findall(r"^\s+\d+\. (.*)$", text, re.MULTILINE)
        failed = re.findall(r"^\s+\[FAILED\] (.*)$", log, re.MULTILINE)
        return outcome("failed", "; ".join((failed + asserts)[:2]))
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return outcome("skipped", "it logged nothing")
    details = (*_DETAILS, _DETAILS_OF[case]) if case in _DETAILS_OF else _DETAILS
    for line in lines:
        if line.startswith("[SKIPPED]") and not any(one in line for one in details):
            return outcome("skipped", line.removeprefix("[SKIPPED] "))
        if any(one in line for one in _SILENT_SKIPS):
            return outcome("skipped", line)
    return outcome("passed")


def run_case(case: str, urls: Sequence[str], limit: float = LIMIT) -> Outcome:
    """
    Run one case against a LUN, known by one or two URLs.
    """
    tool = find("iscsi-test-cu")
    assert tool is not None
    began = time.monotonic()
    command = [tool, "--dataloss", "--allow-sanitize", "-v", "-V", "-t", case, *urls]
    status, text = _on_terminal(command, limit, hurry())
    return judge(case, status, text, time.monotonic() - began)


def _clean(directory: str) -> None:
    """
    Write zeros over the first blocks: MultipathIO.CompareAndWrite clears one too few of
    those it uses, and passes only where nobody has written before.
    """
    image = Path(directory) / "disk.img"
    if image.exists():
        with image.open("r+b") as file:
            file.write(bytes(4 << 20))


@contextlib.contextmanager
def served(setup: str, directory: str) -> Iterator[list[str]]:
    """
    Serve a LUN of the kind *setup* from files in *directory*; yield its URLs.
    """
    device, count = SETUPS[setup]
    more = [f"127.0.0.1:{free_port()}" for _portal in range(count - 1)]
    options = [word for portal in more for word in ("--listen", portal)]
    with Server("--device", f"disk={device}", *options, directory=directory) as server:
        others = [server.url.replace(server.portal, portal) for portal in more]
        yield [server.url, *others]


def scratch() -> str | None:
    """
    Return where the files are: in memory if there is enough of it, for what is written
    through (WRITE ATOMIC, SANITIZE) takes a disk minutes.
    """
    memory = "/dev/shm"
    try:
        return memory if shutil.disk_usage(memory).free > 4 << 30 else None
    except OSError:
        return None


def run(
    setup: str,
    wanted: Sequence[str],
    jobs: int = 4,
    limit: float = LIMIT,
    *,
    briefly: bool = False,
) -> list[Outcome]:
    """
    Run cases on a kind of LUN, *jobs* at a time, each job with a target of its own.
    """
    wanted = wanted_on(setup, wanted, briefly=briefly)
    if not wanted:
        return []
    jobs = min(jobs, -(-len(wanted) // 20)) or 1
    with contextlib.ExitStack() as stack:
        free: SimpleQueue[tuple[str, list[str]]] = SimpleQueue()
        for _job in range(jobs):
            directory = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch()))
            free.put((directory, stack.enter_context(served(setup, directory))))

        def one(case: str) -> Outcome:
            directory, urls = free.get()
            try:
                _clean(directory)
                return run_case(case, urls, limit)
            finally:
                free.put((directory, urls))

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, wanted))


def summary(
    wanted: Sequence[str], jobs: int = 4, limit: float = LIMIT
) -> tuple[dict[str, str], dict[str, str]]:
    """
    Run each case on one kind of LUN after the other until it passes; return where each
    passed, and why those that never did have not.
    """
    passed: dict[str, str] = {}
    left = dict.fromkeys(wanted, "it was not run")
    for setup in SETUPS:
        for outcome in run(setup, list(left), jobs, limit):
            if outcome.verdict == "passed":
                passed[outcome.case] = setup
                del left[outcome.case]
            else:
                left[outcome.case] = (
                    NEVER.get(outcome.case) or f"{outcome.verdict}: {outcome.why}"
                )
    return passed, left


def summed_up(wanted: Sequence[str], jobs: int, limit: float) -> int:
    """
    Print what `summary` finds; return 1 if a case never passed that could.
    """
    passed, left = summary(wanted, jobs, limit)
    for setup, count in Counter(passed.values()).items():
        print(f"{setup}: {count} more passed")
    print(
        f"passed in at least one set-up: {len(passed)} of {len(wanted)},"
        f" never passed: {len(left)}"
    )
    for case, why in left.items():
        print(f"{' ' if case in NEVER else '!'} {case}: {why}")
    return 1 if set(left) - set(NEVER) else 0


VERDICTS = ("passed", "failed", "skipped", "timed out")


def counts(outcomes: Sequence[Outcome]) -> str:
    """
    Return the four counts in words.
    """
    found = Counter(outcome.verdict for outcome in outcomes)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the suite and print the table; return 1 if a case that must pass did not.
    """
    parser = argparse.ArgumentParser(description="Run libiscsi's suite against scstd.")
    parser.add_argument("--setup", action="append", choices=sorted(SETUPS))
    parser.add_argument("--case", action="append", help="pattern (SCSI.Read10.*)")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--log", action="store_true", help="print logs of failures")
    parser.add_argument(
        "--summary",
        action="store_true",
        help="run each case until it passes on some kind of LUN",
    )
    chosen = parser.parse_args(arguments)
    patterns = chosen.case or ["*"]
    wanted = [
        case
        for case in cases()
        if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)
    ]
    if chosen.summary:
        return summed_up(wanted, chosen.jobs, chosen.limit)
    bad = 0
    for setup in chosen.setup or ["plain", "thin"]:
        outcomes = run(setup, wanted, chosen.jobs, chosen.limit)
        for outcome in outcomes:
            if outcome.verdict == "passed":
                continue
            required = must_pass(outcome.case, setup)
            bad += required
            mark = "!" if required else " "
            why = reason(outcome.case, setup) or outcome.why
            print(f"{mark} {outcome.verdict:9} {outcome.case}: {why}")
            if chosen.log and outcome.verdict in {"failed", "timed out"}:
                print(outcome.log)
        print(f"{setup}: {len(outcomes)} cases: {counts(outcomes)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
