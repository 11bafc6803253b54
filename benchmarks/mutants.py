"""How many small mistakes in the code the tests notice.

    python benchmarks/mutants.py [--seed N] [--number N] [--tests GLOB ...] [FOLDER ...]

Draws mutants at random out of all that mutmut's operators make of the folders (by default
``kv_cache``, ``memory`` and ``engine_args``): a number one higher, ``<`` for ``<=``, ``and`` for
``or``, an argument ``None`` or left out, a name in a string changed. Sentences are left alone, and
so are type annotations: neither changes a plan. Each mutant is written into a copy of the
repository, which has no ``../shared`` beside it, and gets the tests that run its line, cheap ones
first, until one fails. A mutant counts as survived where none fails within ``--seconds``, so the
figure is a lower bound; one that changes nothing counts as survived too.

Which test runs which line is asked of coverage once per test file and kept in ``build/``.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.mutant_places import FOLDERS, PACKAGE, ROOT, Mutant, drawn
from benchmarks.mutant_tests import Coverage, environment

PATIENCE = 20
"""So many times its tests' seconds a mutant may take before it counts as endless, and noticed."""
ANEW = 400
"""Tests at most of a mutant that needs an interpreter of its own."""


def _functions(holder: Any, module: str) -> Iterator[tuple[str, FunctionType]]:
    """The functions and methods that a module defines, by their qualified names."""
    for held in list(vars(holder).values()):
        if isinstance(held, type) and held.__module__ == module and held is not holder:
            yield from _functions(held, module)
        value = held
        for name in ("fget", "func", "__func__", "__wrapped__"):
            value = getattr(value, name, value)
        if isinstance(value, FunctionType) and value.__module__ == module:
            yield value.__qualname__, value


def swap(path: str, source: str) -> bool:
    """Give the functions of a loaded module the code of another source.

    False where that is not all that differs: the module has to be imported anew.
    """
    name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    loaded = sys.modules.get(name)
    if loaded is None:
        return True  # it is imported by the test
    other = ModuleType(name)
    other.__dict__.update({key: vars(loaded)[key] for key in ("__file__", "__package__")})
    exec(compile(source, str(loaded.__file__), "exec"), other.__dict__)
    mutated = dict(_functions(other, name))
    changed = False
    for qualified, function in _functions(loaded, name):
        if function.__code__ != mutated[qualified].__code__:
            function.__code__ = mutated[qualified].__code__
            changed = True
    constants = dict(_constants(other, name))
    for (holder, key), value in list(_constants(loaded, name)):
        if value != constants[holder, key]:
            _set(loaded, holder, key, value, constants[holder, key])
            changed = True
    return changed


def _constants(holder: Any, module: str) -> Iterator[tuple[tuple[str, str], Any]]:
    """Plain values of a module and of its classes (not of records' fields), by their names."""
    fields = getattr(holder, "__record_names__", ())
    for key, value in vars(holder).items():
        if isinstance(value, type) and value.__module__ == module and value is not holder:
            yield from _constants(value, module)
        elif not key.startswith("__") and key not in fields and _is_plain(value):
            yield (getattr(holder, "__qualname__", ""), key), value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, str | int | float)


def _set(module: ModuleType, holder: str, key: str, old: Any, new: Any) -> None:
    """Where the value stands, and in every module that imported it by this name."""
    if holder:
        for name in holder.split("."):
            module = getattr(module, name)
        setattr(module, key, new)
        return
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith(PACKAGE) and vars(other).get(key) is old:
            setattr(other, key, new)


class Campaign:
    """A pytest plugin: once all tests are collected, each mutant gets its own in a fork."""

    def __init__(self, mutants: Sequence[Mutant], coverage: Coverage, tree: Path, seconds: float):
        self.mutants, self.coverage, self.tree, self.seconds = mutants, coverage, tree, seconds
        self.killers: list[str] = []
        self.failed = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Print what became of each mutant."""
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            tests = [test for test in self.coverage.tests_of(mutant) if test in items]
            total = list(itertools.accumulate(self.coverage.seconds[test] for test in tests))
            tests = tests[: bisect.bisect(total, self.seconds)]
            path = self.tree / mutant.path
            whole, times = path.read_bytes(), path.stat()
            path.write_text(mutant.source, encoding="utf-8")
            found = self.fork(mutant, [items[test] for test in tests]) if tests else ""
            if found == "anew":
                found = self.anew(tests)
            path.write_bytes(whole)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            self.killers.append(found)
            print(f"{found or 'SURVIVED'}  <-  {mutant} ({len(tests)} tests)", flush=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the test that failed."""
        if report.failed:
            self.failed = report.nodeid

    def fork(self, mutant: Mutant, items: Sequence[pytest.Item]) -> str:
        """The first of these tests that fails with the mutated functions; ``anew`` if none can."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.setsid()
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            try:
                self.failed = "" if swap(mutant.path, mutant.source) else "anew"
            except Exception as error:
                self.failed = f"import: {type(error).__name__}"
            for item in items:
                if not self.failed:
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            os.write(writer, self.failed.encode())
            os._exit(0)
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], PATIENCE * self.seconds)
        answer = os.read(reader, 4096).decode() if ready else "no end"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        return answer

    def anew(self, tests: Sequence[str]) -> str:
        """The same in an interpreter of its own: what runs on import is mutated."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
        try:
            done = subprocess.run(
                [*command, *tests[:ANEW]],
                check=False,
                cwd=self.tree,
                env=environment(self.tree),
                capture_output=True,
                text=True,
                timeout=PATIENCE * self.seconds,
            )
        except subprocess.TimeoutExpired:
            return "no end"
        failed = (line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
        return next(failed, "ERROR") if done.returncode else ""


def copied(tree: Path) -> None:
    """What git knows of, in a folder that has no ``shared`` beside it."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)


def main() -> int:
    """Print every mutant with what became of it, and the share that was noticed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="*", default=FOLDERS, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, default=40, help="mutants of each folder")
    parser.add_argument("--tests", nargs="+", default=["test_*.py"], metavar="GLOB")
    parser.add_argument("--seconds", type=float, default=60, help="of tests a mutant")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "copy"
        copied(tree)
        coverage = Coverage(tree, args.tests)
        mutants = drawn(args.folders, args.number, args.seed)
        campaign = Campaign(mutants, coverage, tree, args.seconds)
        os.environ.update(environment(tree))
        os.chdir(tree)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        files = sorted({test.split("::")[0] for test in coverage.seconds})
        pytest.main(["-q", "-s", "-p", "no:cacheprovider", *files], plugins=[campaign])
    noticed = sum(map(bool, campaign.killers))
    print(f"{noticed} of {len(mutants)} mutants were noticed: {noticed / len(mutants):.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
