"""How large the house is: files, lines, functions, floors, circles, what one plan walks through.

    python benchmarks/structure.py [MODEL]

Product code only (``vllm_kv_planner/``). Imports inside functions and those for types count like
any other. Needs ``import-linter``, which brings grimp. Nothing here is a test; the contract that CI
holds the imports to stands in ``setup.cfg``.
"""

from __future__ import annotations

import ast
import os
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

PACKAGE = Path(__file__).resolve().parent.parent / "vllm_kv_planner"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def size() -> None:
    """Files, lines and functions."""
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    nodes = [node for text in sources for node in ast.walk(ast.parse(text))]
    functions = sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes)
    lines = sum(len(text.splitlines()) for text in sources)
    print(f"{len(sources)} files, {lines:,} lines, {functions:,} functions")


def imports() -> None:
    """Whether modules import each other in a circle; and the floors of the house."""
    import grimp

    found = grimp.build_graph(PACKAGE.name, cache_dir=None)
    graph = {name: found.find_modules_directly_imported_by(name) for name in found.modules}
    try:
        TopologicalSorter(graph).prepare()
        print("no import circle")
    except CycleError as error:
        print("an import circle:", " -> ".join(error.args[1]))
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        for other in others if name != PACKAGE.name else ():
            ours, theirs = name.split(".")[1], other.split(".")[1]
            rooms.setdefault(ours, set()).update({theirs} - {ours})
    sorter = TopologicalSorter(rooms)
    try:
        sorter.prepare()
    except CycleError as error:
        print("rooms in a circle:", " -> ".join(error.args[1]))
        return
    floors: list[str] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        sorter.done(*ready)
        floors.append(" ".join(sorted(ready)))
    print(f"{len(floors)} floors, from the ground:", *floors, sep="\n  ")


def entered(model: str) -> None:
    """The files and functions that one plan of a model enters."""
    from vllm_kv_planner import plan

    seen: set[tuple[str, str, int]] = set()

    def call(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and str(PACKAGE) in code.co_filename and code.co_name != "<module>":
            seen.add((code.co_filename, code.co_name, code.co_firstlineno))

    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.setprofile(call)
    plan(model, gpu="H100")
    sys.setprofile(None)
    files = {file for file, _, _ in seen}
    print(f"a plan of {model} enters {len(seen)} functions in {len(files)} files")


if __name__ == "__main__":
    size()
    imports()
    entered(sys.argv[1] if len(sys.argv) > 1 else LLAMA)
