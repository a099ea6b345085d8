# SPDX-License-Identifier: MIT
"""
What the tests do not see: ``python -m scstd.test.mutants`` puts faults into copies of
the tree, one each, and says which of them no test has noticed.

``--seed`` chooses the faults (`mutations`), evenly over their kinds.  Which tests are
tried is measured: each test module is run once, and what functions it calls is written
down (``--map``; about as long as ``make test``, and good for many runs).  A mutant meets
first the modules that import its file, then the quickest of those that call its
function, as many as take ``--seconds``.  The tree itself is never changed.

A survivor is a test to write, or a change that makes no difference: that is for people
to say.  It is printed as a difference, with the command that did not notice it.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import difflib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import CodeType
from typing import TypeVar

import attrs

import scstd
from scstd.test.mutations import Mutation, mutations

ROOT = Path(scstd.__file__).parents[1]

ROOMS = ("scstd/block", "scstd/protocols/engine", "scstd/scsi")
"""What gets faults: what knows the standards, and does no I/O."""

ELSEWHERE = """\
architecture copy_real docs foreign hostile ipxe linux manual mutants real_discs
real_initiators soak storm"""
"""Test modules that are not tried: others' programs, minutes, or no code of ours."""

PATIENCE = 300
"""Seconds in which a test module has to be through to be tried at all."""

MEMORY = 4 << 30
"""Bytes of address space that tests of a mutant may have: some collect without end."""

T = TypeVar("T")
R = TypeVar("R")

Calls = dict[str, list[str]]
"""By file: the names of the functions that were called."""


@attrs.frozen
class Mutant:
    """
    A fault in a file, whose path is from the top of the tree.
    """

    path: str
    mutation: Mutation

    def difference(self, top: Path) -> str:
        """
        Return what it changes, for people.
        """
        old = (top / self.path).read_text(encoding="utf-8")
        new = self.mutation.apply(old)
        return "".join(
            difflib.unified_diff(
                old.splitlines(keepends=True),
                new.splitlines(keepends=True),
                f"a/{self.path}",
                f"b/{self.path}",
                n=2,
            )
        )


@attrs.frozen
class Tried:
    """
    What a test module does when nothing is wrong.
    """

    seconds: float
    calls: Calls
    imports: list[str]
    """The files that the module itself imports."""


def choose(
    top: Path, count: int, seed: int, rooms: Sequence[str] = ROOMS
) -> list[Mutant]:
    """
    Return *count* mutants: a kind, and then one of that kind, by lot.
    """
    kinds: dict[str, list[Mutant]] = {}
    for room in rooms:
        for path in sorted((top / room).rglob("*.py")):
            name = path.relative_to(top).as_posix()
            for one in mutations(path.read_text(encoding="utf-8")):
                kinds.setdefault(one.kind, []).append(Mutant(name, one))
    lot = random.Random(seed)
    found: list[Mutant] = []
    while len(found) < count and any(kinds.values()):
        of_kind = kinds[lot.choice(sorted(kind for kind in kinds if kinds[kind]))]
        found.append(of_kind.pop(lot.randrange(len(of_kind))))
    return found


def relevant(mutant: Mutant, tests: dict[str, Tried], seconds: float) -> list[str]:
    """
    Return the test modules to try, in order, as many as *seconds* are enough for.
    """
    near: list[tuple[bool, float, str]] = []
    function = mutant.mutation.function
    for name, test in tests.items():
        called = test.calls.get(mutant.path, [])
        if function in called or (called and not function):
            near.append((mutant.path not in test.imports, test.seconds, name))
    found: list[str] = []
    for _far, takes, name in sorted(near):
        seconds -= takes
        if found and seconds < 0:
            break
        found.append(name)
    return found


def run(command: Sequence[str], top: Path, seconds: float) -> tuple[int | None, str]:
    """
    Run a Python command in a tree; return its exit status and what it said, None as the
    status when it did not end in time.  Nothing that it has started stays.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=top,
            env={**os.environ, "PYTHONPATH": str(top), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return status, said.read().decode(errors="replace")


def trial(modules: Iterable[str]) -> list[str]:
    """
    Return the command that runs test modules up to the first failure.
    """
    return ["-m", "twisted.trial", "--exitfirst", *modules]


def dies(mutant: Mutant, top: Path, modules: Sequence[str], seconds: float) -> str:
    """
    Say how the tests notice a fault that is put into the tree *top* for a while: they
    fail, or do not come to their end; empty if they do not notice it.
    """
    path = top / mutant.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutant.mutation.apply(whole), encoding="utf-8")
    try:
        status, _said = run(trial(modules), top, seconds)
    finally:
        path.write_text(whole, encoding="utf-8")
    return "no end" if status is None else "killed" if status else ""


def copy(top: Path) -> Path:
    """
    Copy the tree to *top*, and return that.
    """
    unwanted = shutil.ignore_patterns(
        ".*", "build", "dist", "_trial_temp*", "*.egg-info", "__pycache__"
    )
    shutil.copytree(ROOT, top, ignore=unwanted)
    return top


def _traced(module: str, result: Path) -> int:
    """
    Run a test module here, and write down what it calls.
    """
    from twisted.scripts.trial import run as trial_main  # noqa: PLC0415

    sys.argv = ["trial", module]
    profile = cProfile.Profile(builtins=False)
    status: object = 0
    try:
        profile.runcall(trial_main)
    except SystemExit as end:
        status = end.code
    calls: Calls = {}
    for entry in profile.getstats():
        if isinstance(entry.code, CodeType):
            path = Path(entry.code.co_filename)
            if path.is_relative_to(ROOT):
                names = calls.setdefault(str(path.relative_to(ROOT)), [])
                names.append(entry.code.co_name)
    imported = {
        name
        for one in vars(sys.modules[module]).values()
        for name in (getattr(one, "__module__", ""), getattr(one, "__name__", ""))
        if isinstance(name, str) and name.startswith("scstd.") and name in sys.modules
    }
    files = [
        str(Path(sys.modules[name].__file__ or "").relative_to(ROOT))
        for name in sorted(imported)
    ]
    result.write_text(json.dumps({"calls": calls, "imports": files}), encoding="utf-8")
    return 1 if status else 0


def _measure(top: Path, module: str) -> Tried | None:
    """
    Return what a test module calls in a tree; None if it fails, or takes too long.
    """
    result = top / "calls.json"
    result.unlink(missing_ok=True)
    command = ["-m", "scstd.test.mutants", "--trace", module, str(result)]
    began = time.monotonic()
    status, _said = run(command, top, PATIENCE)
    if status or status is None or not result.exists():
        return None
    return Tried(time.monotonic() - began, **json.loads(result.read_text()))


class Trees:
    """
    Copies of the tree, one for each of the threads that work at once.
    """

    def __init__(self, directory: Path, jobs: int) -> None:
        self._jobs = jobs
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            self._free.put(copy(directory / str(number)))

    def each(self, work: Callable[[Path, T], R], things: Iterable[T]) -> Iterator[R]:
        """
        Yield what *work* returns, given a tree and one of the things, in their order.
        """

        def one(thing: T) -> R:
            top = self._free.get()
            try:
                return work(top, thing)
            finally:
                self._free.put(top)

        with ThreadPoolExecutor(self._jobs) as pool:
            yield from pool.map(one, things)


def measured(trees: Trees) -> dict[str, Tried]:
    """
    Return what each test module calls, but of those that do not pass.
    """
    modules = [
        f"scstd.test.{path.stem}"
        for path in sorted((ROOT / "scstd" / "test").glob("test_*.py"))
        if path.stem.removeprefix("test_") not in ELSEWHERE.split()
    ]
    found: dict[str, Tried] = {}
    results = trees.each(_measure, modules)
    for module, tried in zip(modules, results, strict=True):
        if tried is None:
            print(f"{module} does not pass here: not tried", flush=True)
        else:
            found[module] = tried
    return found


def load(path: Path, trees: Trees) -> dict[str, Tried]:
    """
    Return what each test module calls, measured before or now.
    """
    if path.exists():
        return {
            name: Tried(**tried)
            for name, tried in json.loads(path.read_text(encoding="utf-8")).items()
        }
    found = measured(trees)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({name: attrs.asdict(tried) for name, tried in found.items()}),
        encoding="utf-8",
    )
    return found


def main() -> int:
    """
    Try mutants; the status is the number of those that live.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of tests for each mutant"
    )
    parser.add_argument("--map", type=Path, default=ROOT / "build" / "mutants.json")
    parser.add_argument("--room", action="append", help="a directory that gets faults")
    parser.add_argument("--trace", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        return _traced(options.trace[0], Path(options.trace[1]))
    alive = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        trees = Trees(Path(directory), options.jobs)
        tests = load(options.map, trees)
        chosen = choose(ROOT, options.count, options.seed, options.room or ROOMS)

        proven: dict[str, bool] = {}

        def passes(top: Path, module: str) -> bool:
            # What fails by itself would kill every mutant: the map may be an old one.
            if module not in proven:
                limit = 30 + 3 * tests[module].seconds
                proven[module] = run(trial([module]), top, limit)[0] == 0
            return proven[module]

        def attempt(top: Path, mutant: Mutant) -> tuple[list[str], str]:
            chosen = relevant(mutant, tests, options.seconds)
            modules = [module for module in chosen if passes(top, module)]
            limit = 30 + 3 * sum(tests[name].seconds for name in modules)
            return modules, dies(mutant, top, modules, limit) if modules else ""

        results = trees.each(attempt, chosen)
        for number, (mutant, (modules, how)) in enumerate(
            zip(chosen, results, strict=True), 1
        ):
            where = f"{mutant.path}:{mutant.mutation.line} {mutant.mutation.kind}"
            said = how or "SURVIVED"
            print(f"{number}. {said} {where} ({len(modules)} modules)", flush=True)
            if not how:
                alive += 1
                print(mutant.difference(ROOT))
                print(" ".join(["    python", *trial(modules)]), flush=True)
    print(f"seed {options.seed}: {alive} of {len(chosen)} survived")
    return min(alive, 100)


if __name__ == "__main__":
    sys.exit(main())
