"""Every place of a file that mutmut's operators change, and a draw out of all of them."""

from __future__ import annotations

import ast
import contextlib
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vllm_kv_planner"
FOLDERS = ("kv_cache", "memory", "engine_args")
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
