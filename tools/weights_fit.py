"""Solves what vLLM registered as functions of the config's keys.

Widths: sums of products of keys with a rational factor, found over all samples at once. Presence:
conditions over keys and the layer's number. Whatever no expression explains is not explained, and
the architecture is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from weights_products import is_number, rounded, single, summed

from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.memory.weights.architectures.expression import holds
from vllm_kv_planner.memory.weights.architectures.shapes import Names

GENERAL = ("$heads", "$kv_heads", "$head_size", "$layers", "$labels")


class Unsolved(Exception):
    """No expression explains a width or a presence."""


class Point:
    """One sample, and a layer's number where the row lies in layers."""

    __slots__ = ("index", "lookup", "sample")

    def __init__(self, sample: int, names: Names, index: int | None) -> None:
        self.sample, self.index = sample, index
        self.lookup = names.at(index)


class Solver:
    """Expressions over the keys that vLLM read."""

    def __init__(self, names: Sequence[Names], read: Iterable[str]) -> None:
        self.names = names
        self.read = sorted(read)
        self.known: dict[Any, Any] = {}
        self.atoms: dict[str, list[Any]] = {}
        for key in (*GENERAL, *self.read):
            values = [self._value(each, key) for each in names]
            for path, inner in _opened(key, values):
                self.atoms[path] = inner

    @staticmethod
    def _value(names: Names, key: str) -> Any:
        try:
            return names.value(key)
        except PlannerError:
            return None

    # -- widths -------------------------------------------------------------------------------

    def width(self, points: Sequence[Point], values: Sequence[int]) -> int | str:
        """The simplest expression that gives every value."""
        key = ("w", tuple((p.sample, p.index) for p in points), tuple(values))
        if key not in self.known:
            self.known[key] = self._width(points, values)
        found = self.known[key]
        if found is None:
            raise Unsolved(f"widths {sorted(set(values))[:8]}")
        return found  # type: ignore[no-any-return]

    def _width(self, points: Sequence[Point], values: Sequence[int]) -> int | str | None:
        if len(set(values)) == 1:
            return self._constant(points, values[0])
        seen: dict[tuple[Any, ...], int] = {}
        columns = self._columns(points)
        rows = []
        for position in range(len(points)):
            mark = (values[position], *(column[position] for column in columns.values()))
            if mark not in seen:
                seen[mark] = position
                rows.append(position)
        target = [values[r] for r in rows]
        vectors = {name: [column[r] for r in rows] for name, column in columns.items()}
        return single(vectors, target) or rounded(vectors, target) or summed(vectors, target)

    def _constant(self, points: Sequence[Point], value: int) -> int | str:
        """The number; or the key that has it everywhere, where it is too odd for a constant.

        A key counts that other samples vary: on one side of a condition they may all agree.
        """
        if value < 4:
            return value
        names = [
            path
            for path, values in self.atoms.items()
            if all(is_number(values[p.sample]) and values[p.sample] == value for p in points)
        ]
        varied = [n for n in names if len({str(v) for v in self.atoms[n]}) > 1]
        return min(varied, key=lambda n: ("hidden" not in n, len(n)), default=value)

    def _columns(self, points: Sequence[Point]) -> dict[str, list[Any]]:
        """Every atom's values at the points, numbers only; lists by the layer's number."""
        columns: dict[str, list[Any]] = {}
        for path, values in self.atoms.items():
            if all(is_number(values[p.sample]) for p in points):
                columns[path] = [values[p.sample] for p in points]
            elif all(isinstance(values[p.sample], (list, tuple)) for p in points):
                if all(p.index is not None and p.index < len(values[p.sample]) for p in points):
                    column = [values[p.sample][p.index] for p in points]
                    if all(map(is_number, column)):
                        columns[f"{path}[i]"] = column
                shortest = min(len(values[p.sample]) for p in points)
                for item in range(min(shortest, 3)):
                    column = [values[p.sample][item] for p in points]
                    if all(map(is_number, column)):
                        columns[f"{path}[{item}]"] = column
        for name, column in list(columns.items()):
            if any(isinstance(v, float) and v % 1 for v in column) and all(
                0.01 < v < 100 for v in column
            ):
                columns[f"(1 / {name})"] = [1 / v for v in column]
        unique: dict[tuple[Any, ...], str] = {}
        for name, column in columns.items():
            unique.setdefault(tuple(column), name)
        return {name: columns[name] for name in unique.values() if any(columns[name])}

    # -- conditions ---------------------------------------------------------------------------

    def condition(self, points: Sequence[Point], present: Sequence[bool]) -> str | None:
        """The simplest condition that tells where a row is; None where it always is."""
        if all(present):
            return None
        key = ("c", tuple((p.sample, p.index) for p in points), tuple(present))
        if key not in self.known:
            self.known[key] = self._condition(points, list(present))
        found = self.known[key]
        if found is None:
            raise Unsolved("presence")
        return found  # type: ignore[no-any-return]

    def literals(self, points: Sequence[Point]) -> dict[str, list[bool]]:
        """Conditions that are neither always true nor never, the simplest first."""
        texts: list[str] = ["$tied"]
        for path, values in self.atoms.items():
            kinds = [values[p.sample] for p in points]
            lists = [v for v in kinds if isinstance(v, (list, tuple))]
            if lists and all(v is None or isinstance(v, (list, tuple)) for v in kinds):
                texts += _of_lists(path, lists)
                continue
            words = sorted({v for v in kinds if isinstance(v, str)})
            texts += [f"{path} == '{word}'" for word in words if len(words) > 1 or None in kinds]
            texts.append(path)
            if any(is_number(v) for v in kinds) and points[0].index is not None:
                texts += [f"i < {path}", f"i % {path} == 0", f"(i + 1) % {path} == 0"]
                texts += [f"i % {path} == {path} // 2"]
            if any(is_number(v) for v in kinds):
                texts += [f"1 < {path}"]
        if points[0].index is not None:
            texts += ["i == 0", "i == $layers - 1", "i % 2 == 0"]
        found: dict[str, list[bool]] = {}
        seen: set[tuple[bool, ...]] = set()
        for text in texts:
            for each in (text, f"not {text}" if " " not in text else f"not ({text})"):
                try:
                    truth = [holds(each, p.lookup) for p in points]
                except (PlannerError, TypeError):
                    break
                if len(set(truth)) == 2 and tuple(truth) not in seen:
                    seen.add(tuple(truth))
                    found[each] = truth
        return found

    def _condition(self, points: Sequence[Point], present: list[bool]) -> str | None:
        if not any(present):
            return None
        literals = self.literals(points)
        for text, truth in literals.items():
            if truth == present:
                return text
        wider = {
            t: v
            for t, v in literals.items()
            if all(a or not b for a, b in zip(v, present, strict=True))
        }
        for (a, x), (b, y) in combinations(wider.items(), 2):
            if [m and n for m, n in zip(x, y, strict=True)] == present:
                return f"({a}) and ({b})"
        inner = {
            t: v
            for t, v in literals.items()
            if all(b or not a for a, b in zip(v, present, strict=True))
        }
        for (a, x), (b, y) in combinations(inner.items(), 2):
            if [m or n for m, n in zip(x, y, strict=True)] == present:
                return f"({a}) or ({b})"
        for (a, x), (b, y), (c, z) in combinations(list(wider.items())[:24], 3):
            if [m and n and o for m, n, o in zip(x, y, z, strict=True)] == present:
                return f"({a}) and ({b}) and ({c})"
        return None


def _of_lists(path: str, lists: Sequence[Sequence[Any]]) -> list[str]:
    words = sorted({w for each in lists for w in each if isinstance(w, str)})
    numbers = sorted({w for each in lists for w in each if is_number(w)})
    return [
        *(f"{path}[i] == '{word}'" for word in words),
        *(f"{path}[i] == {value}" for value in numbers[:4]),
        f"{path}[i]",
        f"i in {path}",
        path,
    ]


def _opened(key: str, values: list[Any]) -> Iterable[tuple[str, list[Any]]]:
    """A key's values, and those of the keys inside where it is a plain object."""
    yield key, values
    if any(isinstance(v, Mapping) for v in values):
        inner = {k for v in values if isinstance(v, Mapping) for k in v}
        for name in sorted(map(str, inner)):
            if name.isidentifier():
                yield (
                    f"{key}.{name}",
                    [v.get(name) if isinstance(v, Mapping) else None for v in values],
                )
