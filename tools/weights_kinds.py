"""One row's widths by the kind of its module."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weights_fit import Point, Solver, Unsolved

from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.memory.weights.architectures.attention import rotary

if TYPE_CHECKING:
    from weights_line import Sample


class Kinds:
    """Rows of linear layers, tables, experts, ropes and plain tensors.

    Attributes:
        halves: Samples as one GPU holds them, and as one of two does.
        quantised: The base with a quantised checkpoint.
    """

    samples: Sequence[Sample]
    solver: Solver
    halves: Sequence[tuple[Sample, Sample]]
    quantised: Sample | None

    def placed(self, name: str) -> tuple[str, str, int | None]:
        """Which stack a row lies in, its name there, and the number of the stack's module."""
        raise NotImplementedError

    def inside(self, name: str) -> bool:
        """Whether the language model's own rule lists it."""
        raise NotImplementedError

    def width(self, points: Sequence[Point], attrs: Sequence[Any], key: str) -> int | str:
        """The expression of one width."""
        if any(key not in each for each in attrs):
            raise Unsolved(f"{key} is not everywhere")
        try:
            return self.solver.width(points, [each[key] for each in attrs])
        except Unsolved as why:
            raise Unsolved(f"{key}: {why}") from None

    def same(self, attrs: Sequence[Any], key: str) -> Any:
        """A value that must be the same everywhere."""
        values = {json.dumps(each.get(key)) for each in attrs}
        if len(values) > 1:
            raise Unsolved(f"{key} is {' or '.join(sorted(values))}")
        return json.loads(values.pop())

    def flag(self, points: Sequence[Point], attrs: Sequence[Any], key: str) -> bool | str:
        """A switch: never, always, or on a condition."""
        values = [bool(each[key]) for each in attrs]
        if not any(values):
            return False
        return self.solver.condition(points, values) or True

    def _linear(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        if any("index_heads" in each for each in attrs):
            raise Unsolved("queries with an index")
        out: list[Any] = []
        count = len([key for key in attrs[0] if key.startswith("out")])
        if any(len([k for k in each if k.startswith("out")]) != count for each in attrs):
            raise Unsolved("merged matrices differ in number")
        for number in range(count):
            out.append(self.width(points, attrs, f"out{number}"))
        if "heads" in attrs[0]:
            heads = self.width(points, attrs, "heads")
            out += [[heads, self.width(points, attrs, key)] for key in ("k_width", "v_width")]
        made: dict[str, Any] = {"in": self.width(points, attrs, "in"), "out": out}
        made["shard"] = self.same(attrs, "shard")
        if bias := self.flag(points, attrs, "bias"):
            made["bias"] = bias
        if dtype := self.same(attrs, "dtype"):
            made["dtype"] = dtype
        if self.quantised is not None and self.is_plain(own):
            made["plain"] = True
        return made

    def is_plain(self, own: str) -> bool:
        """Whether vLLM builds the layer without the quantisation config."""
        assert self.quantised is not None
        found = [
            attrs["quantised"]
            for (name, kind), attrs in self.quantised.by_name.items()
            if kind == "linear" and self.placed(name)[1] == own
        ]
        return bool(found) and not any(found)

    def _embedding(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        if (
            self.same(attrs, "padding") != 64
            or self.same(attrs, "added")
            or self.same(attrs, "dtype")
        ):
            raise Unsolved("a table of another kind")
        made: dict[str, Any] = {key: self.width(points, attrs, key) for key in ("rows", "width")}
        if not self.same(attrs, "sharded"):
            made["sharded"] = False
        if self.same(attrs, "head"):
            made["is_head"] = True
            if bias := self.flag(points, attrs, "bias"):
                made["bias"] = bias
        return made

    def _experts(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        made: dict[str, Any] = {
            key: self.width(points, attrs, key) for key in ("experts", "hidden", "intermediate")
        }
        made["projections"] = self.same(attrs, "projections")
        for key in ("bias", "score_bias"):
            if value := self.flag(points, attrs, key):
                made[key] = value
        for key, usual in (("gated", True), ("renormalizes", True)):
            values = {each[key] for each in attrs}
            if values != {usual}:
                made[key] = (
                    usual if len(values) > 1 and key == "renormalizes" else self.same(attrs, key)
                )
        activation = sorted({each["activation"] for each in attrs})
        if activation != ["silu"]:
            made["activation"] = activation[0]
        return made

    def _attention(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        return {"is_latent": True} if self.same(attrs, "is_latent") else {}

    def _rotary(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        dtype, variant = self.same(attrs, "dtype"), self.same(attrs, "variant")
        known = {self.samples[p.sample].built["dtype"] for p in points}
        made: dict[str, Any] = {} if dtype in known else {"dtype": dtype}
        if variant:
            made["variant"] = variant
        if any(set(each) != {"d0", "d1", "dtype", "variant"} for each in attrs):
            raise Unsolved("a rope cache of another kind")
        for part in (1.0, 0.5, 0.25):
            more = {} if part == 1.0 else {"partial_rotary": part}
            for head in (
                "$head_size",
                *(k for k in self.solver.atoms if "rope" in k or "rotary" in k or "head" in k),
            ):
                if self._is_rope(head, more, points, attrs):
                    return {"head": head, **more, **made}
        shape = [self.width(points, attrs, key) for key in ("d0", "d1")]
        return {"shape": shape, **made}

    def _is_rope(self, head: str, more: Any, points: Sequence[Point], attrs: Sequence[Any]) -> bool:
        for point, each in zip(points, attrs, strict=True):
            facts = self.samples[point.sample].facts.with_options(more)
            size = point.lookup(head)
            if type(size) is not int:
                return False
            try:
                found = rotary(facts, size)
            except PlannerError:
                return False
            if (found.rows, found.width) != (each["d0"], each["d1"]):
                return False
        return True

    def _weight(self, own: str, points: Sequence[Point], attrs: Sequence[Any]) -> dict[str, Any]:
        count = len([key for key in attrs[0] if re.fullmatch(r"d\d", key)])
        if any(len([k for k in each if re.fullmatch(r"d\d", k)]) != count for each in attrs):
            raise Unsolved("dimensions differ in number")
        made: dict[str, Any] = {"shape": [self.width(points, attrs, f"d{n}") for n in range(count)]}
        if dtype := self.same(attrs, "dtype"):
            made["dtype"] = dtype
        cut = self.cut(own, count)
        return made if cut is None else {**made, "cut": cut}

    def cut(self, own: str, count: int) -> int | None:
        """The dimension that two GPUs share."""
        found: set[int | None] = set()
        for whole, half in self.halves:
            for (name, kind), attrs in whole.by_name.items():
                if kind != "weight" or self.placed(name)[1] != own or self.inside(name):
                    continue
                other = half.by_name.get((name, kind), {})
                changed = [n for n in range(count) if attrs.get(f"d{n}") != other.get(f"d{n}")]
                if len(changed) > 1:
                    raise Unsolved("two dimensions are divided")
                if changed and attrs.get(f"d{changed[0]}") != 2 * other.get(f"d{changed[0]}", 0):
                    raise Unsolved("divided otherwise than by two")
                found.add(changed[0] if changed else None)
        if len(found) > 1:
            raise Unsolved("divided here and there")
        return found.pop() if found else None
