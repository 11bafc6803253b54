"""vLLM's own profile run, executed for an absent GPU, as parts of the memory.

What was executed takes the place of what is restated here; a part that could not be followed keeps
the restated figure, and its provenance says why. Nothing is compiled in that run: where the engine
compiles, the band reaches from the executed peak to the restated one of the compiled graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot
from typing import Any

from ..memory.activation import activation_peak, seen_activation
from ..memory.overheads import known_overheads
from ..memory.phase import allocated_bytes
from ..memory.rank import Rank
from ..memory.versions import version_rules
from ..memory.weights.estimate import StageWeights, WeightsEstimate
from ..planning.memory import KVMemory
from ..planning.standalone import StandalonePlan
from ..planning.types import MemoryInfo, PhaseMemory
from ..records import dataclass, field, replace
from ..units import gib
from ..version import VLLM

EXECUTED = f"vLLM {VLLM}'s own profile run, executed without a GPU (eager)"
WEIGHTS = f"vLLM {VLLM}'s own model, loaded without a GPU: its storages, counted"
_FOLLOWED = ("forward", "draft", "draft logits", "sampler", "rejection sampler", "pooler")
"""Phases by our names that the executed ones hold; others are restated beside them."""
_HELD = ("encoder_outputs", "dummy_items")
"""What the encoder's phase leaves for the later ones."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What vLLM's runner held on one rank, in bytes.

    Attributes:
        weights_bytes: After loading; None where that could not be followed.
        buffers_bytes: What the runner keeps besides.
        phases: The most above both in each phase of the profile run; empty where not followed.
        refused: By part (``load``, ``forward``, ``encoder``) why it could not be followed.
    """

    weights_bytes: int | None = None
    buffers_bytes: int = 0
    phases: dict[str, int] = field(default_factory=dict, hash=False)
    refused: dict[str, str] = field(default_factory=dict, hash=False)

    @staticmethod
    def of(answer: Mapping[str, Any]) -> Executed:
        """The child's answer."""
        refused = dict(answer.get("refused", {}))
        whole = not {"load", "forward"} & set(refused)
        return Executed(
            weights_bytes=None if "load" in refused else answer.get("weights_bytes"),
            buffers_bytes=answer.get("buffers_bytes", 0),
            phases=dict(answer["phases"]) if whole else {},
            refused=refused,
        )

    def weights(self, unsure: int) -> WeightsEstimate | None:
        """The weights, where loading was followed.

        ``unsure``: how far off they may be. Where kernels lay weights out anew, the allocator keeps
        pieces of what was there before, which no count of tensors sees.
        """
        if self.weights_bytes is None:
            return None
        stage = StageWeights(num_bytes=self.weights_bytes, parts={})
        return WeightsEstimate(stages=(stage,), provenance=WEIGHTS, uncertainty_bytes=unsure)

    def memory(self, mine: StandalonePlan) -> KVMemory:
        """The plan's memory with the executed phases in place of the restated ones."""
        memory = mine.memory
        rank = Rank(setup=mine.setup, rules=version_rules(mine.version))
        known = mine.request.machine.calibration
        measured = known.overheads(mine.version) if known else known_overheads()
        if not self.phases or memory.unknown is not None or seen_activation(rank, measured):
            return self._restated(memory)
        phases = self._all_phases(rank)
        info = memory.infos[0]
        total = self.buffers_bytes + max(phase.num_bytes for phase in phases)
        more = total - (info.activation_peak_bytes or 0)
        eager = mine.setup.args.enforce_eager
        doubt = 0 if eager else abs(more)
        decides = max(phases, key=lambda phase: phase.num_bytes)
        how = f"{EXECUTED}; its {decides.name} phase decides"
        if not eager:
            how += f"; compiled, by the rules restated here: {gib(total - more)}"
        how += "".join(f"; {part} restated: {why}" for part, why in self.refused.items())
        return shifted(memory, replaced(info, total, how, phases), more, doubt)

    def _all_phases(self, rank: Rank) -> tuple[PhaseMemory, ...]:
        limited = rank.rules.split_limited
        restated = activation_peak(rank).phases
        held = 0
        if "encoder" in self.refused:
            live = {part for phase in restated for part in phase.parts if part[0] in _HELD}
            forward = next(phase for phase in restated if phase.name == "forward")
            held = sum(
                allocated_bytes(size, split_limited=limited)
                for name, size in live
                if (name, size) in forward.parts
            )
        return (
            *(
                PhaseMemory(
                    name=phase.name,
                    num_bytes=phase.total_bytes(split_limited=limited),
                    executed=False,
                )
                for phase in restated
                if phase.name not in _FOLLOWED
            ),
            *(
                PhaseMemory(name=name, num_bytes=size + held, executed=True)
                for name, size in self.phases.items()
            ),
        )

    def _restated(self, memory: KVMemory) -> KVMemory:
        """The memory as it is, with the reasons why nothing was executed."""
        if not self.refused:
            return memory
        why = "; ".join(f"{part}: {reason}" for part, reason in self.refused.items())
        said = f"; vLLM's own profile run was not followed ({why})"
        part = "activation_peak_bytes"
        infos = tuple(
            replace(info, provenance={**info.provenance, part: info.provenance[part] + said})
            if part in info.provenance
            else info
            for info in memory.infos
        )
        return replace(memory, infos=infos)


def replaced(info: MemoryInfo, total: int, how: str, phases: tuple[PhaseMemory, ...]) -> MemoryInfo:
    """The parts with another activation peak."""
    return replace(
        info,
        activation_peak_bytes=total,
        provenance={**info.provenance, "activation_peak_bytes": how},
        phases=phases,
    )


def shifted(memory: KVMemory, info: MemoryInfo, more: int, doubt: int) -> KVMemory:
    """One stage's memory where so much more is taken, and so much more in doubt."""
    old = memory.available[0] - memory.pessimistic[0]
    wider = int(hypot(old, doubt)) - old
    available = memory.available[0] - more
    return replace(
        memory,
        infos=(
            replace(
                info,
                available_kv_cache_bytes=None
                if info.available_kv_cache_bytes is None
                else info.available_kv_cache_bytes - more,
                uncertainty_bytes=None
                if info.uncertainty_bytes is None
                else info.uncertainty_bytes + wider,
                starts=tuple(
                    replace(
                        start,
                        available_kv_cache_bytes=start.available_kv_cache_bytes - more,
                        uncertainty_bytes=start.uncertainty_bytes + wider,
                    )
                    for start in info.starts
                ),
            ),
        ),
        available=(available,),
        pessimistic=(memory.pessimistic[0] - more - wider,),
        most=tuple(size - more + wider for size in memory.most),
        rooms=tuple(
            replace(
                room,
                size_bytes=room.size_bytes - more,
                uncertainty_bytes=room.uncertainty_bytes + wider,
            )
            for room in memory.rooms
        ),
    )
