"""Which tests run which line of the code, as coverage says: for ``mutants.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.mutant_places import FOLDERS, PACKAGE, ROOT, Mutant

KEPT = ROOT / "build" / "mutants"


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
                collect = [sys.executable, __file__, str(kept), f"tests/{path.name}"]
                subprocess.run(collect, cwd=tree, env=environment(tree), check=True)
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


def environment(tree: Path) -> dict[str, str]:
    """Variables for an interpreter that imports the copy in ``tree``."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    collect(Path(sys.argv[1]), sys.argv[2])
