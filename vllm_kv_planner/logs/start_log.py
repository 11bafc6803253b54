"""``StartLog``: one engine's start as its log tells it."""

from __future__ import annotations

from typing import Any

from ..records import dataclass, field
from .ended import Ended

GIB = 1 << 30

SMALLEST = frozenset({"kv", "kv_bytes", "free", "blocks", "concurrency", "tokens"})
"""Measures of which, of several ranks, the smallest decides."""


@dataclass(frozen=True, kw_only=True)
class StartLog:
    """What a log says; ``None`` and absent keys are what it does not say.

    Attributes:
        where: The file's name.
        version: vLLM's version.
        model: The model as the engine was given it.
        gpu: The GPU's name, where some line has it.
        arguments: Flags of the engine by ``EngineArgs``' names.
        settled: What the engine's config line says, once defaults were resolved.
        measures: Figures by name (``patterns.py``), for each process that printed them.
        backend: Attention backend.
        runner: ``V1`` or ``V2``: the model runner that loaded the model.
        is_server: A server's banner was seen.
        refusal: The line with which the engine gave up.
        ended: How it ran out of memory once it had started.
        on_cpu: vLLM's CPU build ran it.
        notes: What is to be said of the reading.
    """

    where: str
    version: str | None
    model: str | None
    gpu: str | None
    arguments: dict[str, Any] = field(hash=False)
    settled: dict[str, Any] = field(hash=False)
    measures: dict[str, dict[str, float]] = field(hash=False)
    backend: str | None
    runner: str | None
    is_server: bool
    refusal: str | None
    ended: Ended | None = None
    on_cpu: bool = False
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float | None:
        """The figure of the rank that decides: the one with the least KV memory.

        Where that rank did not print it, the largest of all ranks (the smallest of what is left).
        """
        found = self.measures.get(name)
        if not found:
            return None
        left = self.measures.get("kv")
        if left and len(left) > 1:
            tightest = min(left, key=lambda process: left[process])
            if tightest in found:
                return found[tightest]
        return min(found.values()) if name in SMALLEST else max(found.values())

    def size(self, name: str) -> int | None:
        """``value`` of a figure printed in GiB, in bytes."""
        found = self.value(name)
        return None if found is None else round(found * GIB)

    @property
    def kv_bytes(self) -> int | None:
        """KV memory of the tightest rank, exact where a line has its bytes."""
        exact = self.value("kv_bytes")
        return self.size("kv") if exact is None else int(exact)

    @property
    def started(self) -> bool:
        """Whether the engine got past sizing its cache, as far as the log goes."""
        return self.refusal is None and bool(
            {"blocks", "tokens", "concurrency"} & set(self.measures)
        )
