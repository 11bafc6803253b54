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
import ast
import bisect
import contextlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import libcst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vllm_kv_planner"
FOLDERS = ("kv_cache", "memory", "engine_args")
KEPT = ROOT / "build" / "mutants"
PATIENCE = 20
"""So many times its tests' seconds a mutant may take before it counts as endless, and noticed."""
ANEW = 400
"""Tests at most of a mutant that needs an interpreter of its own."""
NEVER = libcst.Annotation | libcst.Decorator | libcst.Import | libcst.ImportFrom


@dataclass(frozen=True)
class Mutant:
    """One file with one small mistake in it."""

    path: str
    line: int
    operator: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator}: {self.change}"


class Places(libcst.CSTVisitor):
    """Every node of a file that an operator changes, with what it may become."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.found: list[tuple[int, str, libcst.CSTNode, list[libcst.CSTNode]]] = []
        source = path.read_text(encoding="utf-8")
        self.module = MetadataWrapper(libcst.parse_module(source), unsafe_skip_copy=True)
        self.module.visit(self)

    def on_visit(self, node: libcst.CSTNode) -> bool:
        """Note what the operators make of the node; go on into it unless it changes no plan."""
        if isinstance(node, NEVER) or _sentence(node) or _exported(node):
            return False
        for kind, operator in mutation_operators:
            made = list(operator(node)) if isinstance(node, kind) else []
            if made:
                line = self.get_metadata(PositionProvider, node).start.line
                self.found.append((line, operator.__name__.removeprefix("operator_"), node, made))
        return True

    def mutant(self, index: int, draw: random.Random) -> Mutant | None:
        """One of the mutants of a place; none where it is the same program or no program."""
        line, name, old, made = self.found[index]
        new = made[0] if name == "string" else draw.choice(made)
        before = self.module.module.code
        changed = self.module.module.deep_replace(old, new)
        assert isinstance(changed, libcst.Module)
        after = changed.code
        with contextlib.suppress(SyntaxError):
            if ast.dump(ast.parse(after)) != ast.dump(ast.parse(before)):
                code = [libcst.Module([]).code_for_node(node) for node in (old, new)]
                change = " => ".join(" ".join(text.split()) for text in code)
                return Mutant(str(self.path.relative_to(ROOT)), line, name, change, after)
        return None


def _sentence(node: libcst.CSTNode) -> bool:
    return isinstance(node, libcst.SimpleString) and " " in node.value


def _exported(node: libcst.CSTNode) -> bool:
    target = node.targets[0].target if isinstance(node, libcst.Assign) else None
    return isinstance(target, libcst.Name) and target.value == "__all__"


def drawn(folders: Iterable[str], number: int, seed: int) -> list[Mutant]:
    """So many mutants out of each folder, every place as likely as any other."""
    draw = random.Random(seed)
    mutants: list[Mutant] = []
    for folder in folders:
        files = [Places(path) for path in sorted((ROOT / PACKAGE / folder).rglob("*.py"))]
        places = [(file, index) for file in files for index in range(len(file.found))]
        draw.shuffle(places)
        made = (file.mutant(index, draw) for file, index in places)
        mutants += itertools.islice((mutant for mutant in made if mutant), number)
    return mutants


class Coverage:
    """Which tests run which line, asked of coverage once per test file and kept in ``build/``.

    A line is its file and its text, so that it is found again when others move it.
    """

    def __init__(self, tree: Path, patterns: Iterable[str]) -> None:
        self.seconds: dict[str, float] = {}
        self.by_line: dict[str, dict[str, set[str]]] = {}
        for path in sorted({path for each in patterns for path in (ROOT / "tests").glob(each)}):
            name = sha256(path.read_bytes()).hexdigest()[:16]
            kept = KEPT / f"{path.stem}-{name}.json"
            if not kept.is_file():
                KEPT.mkdir(parents=True, exist_ok=True)
                collect = [sys.executable, __file__, "--collect", str(kept), f"tests/{path.name}"]
                subprocess.run(collect, cwd=tree, env=_environment(tree), check=True)
            found = json.loads(kept.read_text(encoding="utf-8"))
            self.seconds.update(found["seconds"])
            tests = list(found["seconds"])
            for file, lines in found["lines"].items():
                for text, indexes in lines.items():
                    held = self.by_line.setdefault(file, {}).setdefault(text, set())
                    held.update(tests[index] for index in indexes)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's statement, cheapest first.

        For what runs on import, those of the whole file.
        """
        lines = self.by_line.get(mutant.path, {})
        source = (ROOT / mutant.path).read_text(encoding="utf-8")
        tree = ast.parse(source)
        found: list[set[str]] = list(lines.values())
        # the statement's own; where it was changed since, its function's
        for span in (_statement(tree, mutant.line), _function(tree, mutant.line)):
            texts = source.splitlines()[span.start - 1 : span.stop - 1] if span else []
            here = [lines[text.strip()] for text in texts if text.strip() in lines]
            if any(here):
                found = here
                break
        return sorted(set().union(*found), key=lambda test: self.seconds[test])


def _statement(tree: ast.Module, line: int) -> range:
    """The lines of the innermost statement, of a block its head; none for what runs on import."""
    span = range(0)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in (node for each in function.body for node in ast.walk(each)):
            if not isinstance(node, ast.stmt):
                continue
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            here = range(node.lineno, max(end, node.lineno) + 1)
            if line in here and (not span or len(here) < len(span)):
                span = here
    return span


def _function(tree: ast.Module, line: int) -> range:
    """The lines of the innermost function; none outside."""
    spans = (
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    )
    return min((span for span in spans if line in span), key=len, default=range(0))


class _Recorder:
    """A pytest plugin: each test is a context of coverage, its seconds of processor are noted."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        began = sum(os.times()[:4])
        yield
        self.seconds[item.nodeid] = round(sum(os.times()[:4]) - began, 4)


def collect(kept: Path, test_file: str) -> None:
    """Run one test file in the copy that is the working directory, and keep what ran what."""
    import coverage

    folders = [f"{PACKAGE}/{folder}/*" for folder in FOLDERS]
    measured = coverage.Coverage(data_file=None, include=folders, config_file=False)
    recorder = _Recorder(measured)
    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", test_file], plugins=[recorder])
    measured.stop()
    index = {test: number for number, test in enumerate(recorder.seconds)}
    lines: dict[str, dict[str, list[int]]] = {}
    data = measured.get_data()
    for file in data.measured_files():
        source = Path(file).read_text(encoding="utf-8").splitlines()
        held = lines.setdefault(str(Path(file).relative_to(Path.cwd())), {})
        for line, tests in data.contexts_by_lineno(file).items():
            text = source[line - 1].strip()
            held[text] = sorted({*held.get(text, ()), *(index[t] for t in tests if t in index)})
    kept.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}), encoding="utf-8")


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


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
                env=_environment(self.tree),
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
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.collect:
        collect(args.collect, args.folders[0])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "copy"
        copied(tree)
        coverage = Coverage(tree, args.tests)
        mutants = drawn(args.folders, args.number, args.seed)
        campaign = Campaign(mutants, coverage, tree, args.seconds)
        os.environ.update(_environment(tree))
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
