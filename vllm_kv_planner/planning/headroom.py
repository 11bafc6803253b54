"""What is left on the GPU after the start, against what requests may take of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import replace
from ..units import gib
from .types import HeadroomInfo, RiskInfo

if TYPE_CHECKING:
    from ..engine_args.setup import EngineSetup
    from ..memory.budget import MemoryBudget
    from ..memory.versions import VersionRules


def headrooms(
    setup: EngineSetup, budget: MemoryBudget, rules: VersionRules
) -> tuple[HeadroomInfo, ...]:
    """Of every pipeline stage's GPU, with the KV cache that the budget leaves."""
    from ..memory.headroom import risks, wanted_bytes
    from ..memory.rank import Rank

    made = []
    for part in budget.ranks:
        found = risks(Rank(setup=setup, rules=rules, stage=part.stage), part.activation)
        made.append(
            HeadroomInfo(
                left_bytes=budget.left_bytes(part),
                uncertainty_bytes=budget.left_uncertainty_bytes(part),
                wanted_bytes=wanted_bytes(found),
                risks=tuple(
                    RiskInfo(
                        name=risk.name,
                        size_bytes=risk.size_bytes,
                        lasts=risk.lasts,
                        source=risk.source,
                        remedy=risk.remedy,
                    )
                    for risk in found
                ),
            )
        )
    return tuple(made)


def with_given_cache(headroom: HeadroomInfo, room: int, unsure: int, kept: int) -> HeadroomInfo:
    """The same beside a KV cache that nobody predicted, on a GPU with so much room for one."""
    return replace(headroom, left_bytes=room - kept, uncertainty_bytes=unsure)


def no_room(budget: MemoryBudget) -> str:
    """Why what comes after the KV cache may end the start: of the GPU that is left the least."""
    rank = min(budget.ranks, key=budget.left_bytes)
    spare = budget.free_at_start_bytes - rank.requested_bytes
    sizes = (rank.later_bytes, spare, budget.left_uncertainty_bytes(rank))
    later, beside, unsure = (gib(size).partition(" (")[0] for size in sizes)
    return (
        f"what the start takes after the KV cache ({later}) may not find room on the GPU, which "
        f"has {beside} beside what is requested, give or take {unsure}; --free-memory or "
        "--other-processes says what it has"
    )


def headroom_text(headroom: HeadroomInfo) -> str:
    """The largest that may find no room, and its remedy; else that all of it does."""
    certain = headroom.left_bytes - headroom.uncertainty_bytes
    lasting = sum(risk.size_bytes or 0 for risk in headroom.risks if risk.lasts)
    for risk in headroom.risks:
        beside = 0 if risk.lasts else lasting
        if risk.size_bytes is not None and risk.size_bytes + beside > certain:
            size = gib(risk.size_bytes).partition(" (")[0]
            return f"{risk.name} may take {size}: {risk.remedy}"
    return "once graphs are captured, beside what steps take"
