"""Rows of an architecture's line: one module of vLLM's class, its widths and its presence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weights_fit import Point, Solver, Unsolved
from weights_kinds import Kinds

if TYPE_CHECKING:
    from weights_line import Sample


class Maker(Kinds):
    """Rows from samples."""

    def __init__(
        self,
        samples: Sequence[Sample],
        solver: Solver,
        halves: Sequence[tuple[Sample, Sample]],
        stages: Sequence[tuple[Sample, Sample, Sample]],
        quantised: Sample | None,
        inner: str | None,
    ) -> None:
        self.samples, self.solver, self.inner = samples, solver, inner
        self.halves, self.stages, self.quantised = halves, stages, quantised
        stacks = [name for name in samples[0].built["stacks"] if not self.inside(name)]
        self.stacks = [
            n for n in stacks if not any(n.startswith(f"{o}.") for o in stacks if o != n)
        ]
        self.main = ""
        self.outside: dict[str, dict[str, Any]] = {}
        for name in self.stacks:
            if inner is None and all(
                s.built["stacks"].get(name) == s.model.num_hidden_layers for s in samples
            ):
                self.main = name
                break
        else:
            self.main = next((name for name in self.stacks if self.is_cut(name)), "")

    def inside(self, name: str) -> bool:
        """Whether the language model's own rule lists it; its head may lie outside."""
        return self.inner is not None and (
            name in (self.inner, "lm_head") or name.startswith((f"{self.inner}.", "lm_head."))
        )

    def is_cut(self, stack: str) -> bool:
        """Whether pipeline stages share a stack's modules."""
        return any(
            {self.placed(n)[2] for n, _ in front.by_name if n.startswith(f"{stack}.")}
            != {self.placed(n)[2] for n, _ in back.by_name if n.startswith(f"{stack}.")}
            and any(n.startswith(f"{stack}.") for n, _ in back.by_name)
            for _, front, back in self.stages
        )

    def count_of(self, stack: str) -> int | str:
        """Number of a stack's modules."""
        points = [Point(n, s.names, None) for n, s in enumerate(self.samples)]
        return self.solver.width(points, [s.built["stacks"].get(stack, 0) for s in self.samples])

    def placed(self, name: str) -> tuple[str, str, int | None]:
        """Which stack a row lies in, its name there, and the number of the stack's module."""
        for stack in self.stacks:
            if name.startswith(f"{stack}."):
                number, _, rest = name[len(stack) + 1 :].partition(".")
                if number.isdigit() and rest:
                    return stack, rest, int(number)
        return "", name, None

    def rows(self) -> list[dict[str, Any]]:
        """Every row, in the order in which they were seen."""
        found: dict[str, dict[tuple[str, str], dict[tuple[int, int | None], Any]]] = {}
        for number, sample in enumerate(self.samples):
            for name, kind, attrs in sample.built["rows"]:
                if self.inside(name):
                    continue
                stack, own, index = self.placed(name)
                here = found.setdefault(stack, {})
                here.setdefault((own, kind), {})[number, index] = (name, attrs)
        rows: list[dict[str, Any]] = []
        for stack, here in found.items():
            points = self.points(stack)
            for (own, kind), seen in here.items():
                try:
                    made = self.made(own, kind, points, seen)
                except Unsolved as why:
                    raise Unsolved(f"{stack or 'outside'}: {own} ({kind}): {why}") from None
                for row in made:
                    rows.append({"n": own, "k": kind, **row, **self.place(stack, seen, row)})
        for row in rows:
            if row["k"] == "embedding" and row.pop("is_head", False):
                row["k"] = "head"
        return rows

    def points(self, stack: str) -> list[Point]:
        """Every place where a row of a stack may be."""
        if not stack:
            return [Point(n, s.names, None) for n, s in enumerate(self.samples)]
        return [
            Point(n, s.names, i)
            for n, s in enumerate(self.samples)
            for i in range(s.built["stacks"].get(stack, 0))
        ]

    def place(self, stack: str, seen: Mapping[Any, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Where a row is built."""
        names = {name for name, _ in seen.values()}
        if stack and stack == self.main:
            return {"at": "layer"}
        on = self.on(names, row)
        if stack:
            self.outside.setdefault(stack, {"of": self.count_of(stack), "on": on})
            return {"at": stack}
        return {"at": on}

    def on(self, names: set[str], row: Mapping[str, Any]) -> str:
        """``first``, ``last``, ``everywhere`` and the like, by two pipeline stages."""
        is_head, is_table = bool(row.get("is_head")), "width" in row
        found: set[str] = set()
        for sample, front, back in self.stages:
            here = {
                (n in {x for x, _ in front.by_name}, n in {x for x, _ in back.by_name})
                for n in names
            }
            tied = sample.facts.tied() and is_table and not is_head
            for held in here:
                if held == (True, True):
                    found.add("embedding" if tied else "everywhere")
                elif held[0]:
                    found.add("first")
                elif held[1]:
                    found.add("head" if is_head else "last")
        if not found:
            found = {"head" if is_head else "first"}
        if is_table and not is_head and found <= {"first", "embedding"}:
            return "embedding"
        if "everywhere" in found:
            return "everywhere"
        if len(found) > 1:
            raise Unsolved(f"stages of {sorted(names)[:2]}: {sorted(found)}")
        return found.pop()

    def made(
        self, own: str, kind: str, points: Sequence[Point], seen: Mapping[Any, Any]
    ) -> list[dict[str, Any]]:
        """A row, or one for each side of a condition where widths differ."""
        present = [(p.sample, p.index) in seen for p in points]
        when = self.solver.condition(points, present)
        here = [p for p, is_there in zip(points, present, strict=True) if is_there]
        attrs = [seen[p.sample, p.index][1] for p in here]
        try:
            return [self.row(own, kind, here, attrs, when)]
        except Unsolved as whole:
            reasons: list[str] = []
            for text, truth in self.solver.literals(here).items():
                try:
                    sides = []
                    for side in (True, False):
                        chosen = [n for n, t in enumerate(truth) if t is side]
                        own_text = text if side else f"not ({text})"
                        both = own_text if when is None else f"({when}) and ({own_text})"
                        sides.append(
                            self.row(
                                own,
                                kind,
                                [here[n] for n in chosen],
                                [attrs[n] for n in chosen],
                                both,
                            )
                        )
                    return sides
                except Unsolved as why:
                    reasons.append(f"{text}: {why}")
            raise Unsolved(f"{whole} [{'; '.join(reasons)}]"[:1500]) from None

    def row(
        self, own: str, kind: str, points: Sequence[Point], attrs: Sequence[Any], when: str | None
    ) -> dict[str, Any]:
        """The row's widths; where it is, in words."""
        made = getattr(self, f"_{kind}")(own, points, attrs)
        return made if when is None else {**made, "if": when}
