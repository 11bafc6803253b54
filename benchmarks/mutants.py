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
from typing import Any

import libcst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vllm_kv_planner"
FOLDERS = ("kv_cache", "memory", "engine_args")
KEPT = ROOT / "build" / "mutants"
NEVER = libcst.Annotation | libcst.Import | libcst.ImportFrom


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
        self.module = MetadataWrapper(libcst.parse_module(path.read_text(encoding="utf-8")))
        self.module.visit(self)

    def on_visit(self, node: libcst.CSTNode) -> bool:
        """Note what the operators make of the node; go on into it unless it changes no plan."""
        if isinstance(node, NEVER) or _sentence(node):
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
        span = _statement(ast.parse(source), mutant.line)
        texts = [text.strip() for text in source.splitlines()[span.start - 1 : span.stop - 1]]
        found = [lines.get(text, set()) for text in texts] if span else list(lines.values())
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


class _Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order),
            key=lambda item: self.order[item.nodeid],
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def verdict(tests: Sequence[str], tree: Path, seconds: float) -> str:
    """The first test that fails, ``""`` where none does.

    In a child process: pytest is there already, the package is imported anew.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(tree)
        os.environ.update(_environment(tree))
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        chosen = _Chosen(tests)
        files = sorted({test.split("::")[0] for test in tests})
        options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
        status = pytest.main([*options, *files], plugins=[chosen])
        answer = chosen.failed or ("" if status == 0 else f"pytest's status {int(status)}")
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    answer = os.read(reader, 4096).decode() if ready else "no end"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    return answer


def killer(mutant: Mutant, coverage: Coverage, tree: Path, seconds: float) -> str:
    """The test that notices the mutant, ``""`` where none does."""
    tests = coverage.tests_of(mutant)
    total = list(itertools.accumulate(coverage.seconds[test] for test in tests))
    tests = tests[: bisect.bisect(total, seconds)]
    path = tree / mutant.path
    whole, times = path.read_bytes(), path.stat()
    path.write_text(mutant.source, encoding="utf-8")
    try:
        for part in (tests[:20], tests[20:200], tests[200:]):
            if part and (found := verdict(part, tree, 30 + 10 * seconds)):
                return found
        return ""
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


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
        names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        for name in filter(None, names.split("\0")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        coverage = Coverage(tree, args.tests)
        killed = []
        for mutant in drawn(args.folders, args.number, args.seed):
            killed.append(killer(mutant, coverage, tree, args.seconds))
            print(f"{killed[-1] or 'SURVIVED'}  <-  {mutant}", flush=True)
    share = sum(map(bool, killed)) / len(killed)
    print(f"{sum(map(bool, killed))} of {len(killed)} mutants were noticed: {share:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
