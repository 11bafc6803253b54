"""``upgrade``: one engine planned for two versions of vLLM, and what changes between them, and why.

Every minor version in between is planned, too, so that each change has the version that brought it;
the reasons are those that the tables of versions keep for it (``engine_args/versions.py``,
``memory/versions.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Any

from ..engine_args.flag_table import is_today, older_flag, refused_by
from ..errors import InputError, PlannerError
from ..memory.versions import all_reasons, version_rules
from ..planner import plan_of
from ..planning.request import PlanRequest
from ..planning.types import FITS, REFUSED, Plan
from ..records import dataclass, replace
from ..report import Answer
from ..report.document import Column, Document, Section, Table, lines_of, noted, shown, table_of
from ..version import VLLM

FIGURES = (
    # label, where in the plan, form
    ("verdict", "verdict", "text"),
    ("max_model_len", "engine.max_model_len", "count"),
    ("max_num_batched_tokens", "engine.max_num_batched_tokens", "count"),
    ("max_num_seqs", "engine.max_num_seqs", "count"),
    ("gpu_memory_utilization", "engine.gpu_memory_utilization", "text"),
    ("kv_cache_dtype", "engine.kv_cache_dtype", "text"),
    ("enable_prefix_caching", "engine.enable_prefix_caching", "text"),
    ("attention_backend", "engine.attention_backend", "text"),
    ("block_size", "engine.block_size", "count"),
    ("weights", "memory.weights_bytes", "gib"),
    ("activation peak", "memory.activation_peak_bytes", "gib"),
    ("CUDA graphs", "memory.cuda_graph_bytes", "gib"),
    ("outside PyTorch", "memory.non_torch_bytes", "gib"),
    ("KV memory", "memory.available_kv_cache_bytes", "gib"),
    ("bytes per block", "kv_cache.bytes_per_block", "count"),
    ("blocks of a request", "blocks", "count"),
    ("num_gpu_blocks", "kv_cache.num_gpu_blocks", "count"),
    ("tokens", "kv_cache.kv_cache_size_tokens", "count"),
    ("concurrency", "kv_cache.max_concurrency", "times"),
)
ALWAYS = frozenset({"verdict", "KV memory", "num_gpu_blocks", "tokens", "concurrency"})
"""Shown also where nothing changes."""
FOLLOWS = {
    "max_num_seqs": ("max_num_batched_tokens",),
    "block_size": ("enable_prefix_caching", "kv_cache_dtype", "attention_backend"),
    "activation peak": ("max_num_batched_tokens", "max_num_seqs"),
    "CUDA graphs": ("max_num_seqs",),
    "KV memory": (
        *("gpu_memory_utilization", "weights", "activation peak", "CUDA graphs"),
        "outside PyTorch",
    ),
    "bytes per block": ("block_size", "kv_cache_dtype"),
    "blocks of a request": ("block_size", "max_num_batched_tokens", "enable_prefix_caching"),
    "num_gpu_blocks": ("KV memory", "bytes per block"),
    "tokens": ("concurrency",),
    "concurrency": ("num_gpu_blocks", "blocks of a request"),
}
"""Which figures move another one."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of the plan.

    Attributes:
        figure: What it is, by vLLM's name where it has one.
        before: In the version that is left; sizes in bytes of one GPU. None: not known.
        after: In the version that is gone to.
        since: The minor versions that changed it, in order; empty where nothing does.
        why: What those versions did, where the tables tell.
    """

    figure: str
    before: Any
    after: Any
    since: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Upgrade(Answer):
    """What another version changes for one engine.

    Attributes:
        model: As it is served.
        gpu: The GPU of every rank.
        before: The version that is left.
        after: The version that is gone to.
        changes: Figures that change, and the headline figures; none where a version refuses.
        refused_flags: Flags that the later version does not take, and since when.
        refusal: Why one of the two does not start, or cannot be planned.
        fits: Whether the engine starts with ``after`` and every flag is known there.
        notes: Sentences on both plans.
    """

    model: str
    gpu: str | None
    before: str
    after: str
    changes: tuple[Change, ...] = ()
    refused_flags: tuple[str, ...] = ()
    refusal: str | None = None
    fits: bool
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """A row a figure."""
        return table_of(self.changes, self._columns())

    def document(self) -> Document:
        """The figures as people read them, refused flags, notes."""
        forms = {label: form for label, _, form in FIGURES}
        readable = [
            replace(
                each,
                before=shown(each.before, forms[each.figure]),
                after=shown(each.after, forms[each.figure]),
            )
            for each in self.changes
        ]
        table = table_of(readable, self._columns()[:-1])
        title = f"{self.model} from vLLM {self.before} to {self.after}"
        lines = [f"refused: {each}" for each in self.refused_flags]
        if self.refusal is not None:
            lines.append(self.refusal)
        told = (f"{each.figure}: {'; '.join(each.why)}" for each in self.changes if each.why)
        return Document(
            title=title,
            sections=(
                Section(title, (table,) if table.rows else ()),
                lines_of(lines),
                lines_of(told),
                lines_of(noted(self.notes)),
            ),
        )

    def _columns(self) -> tuple[Column, ...]:
        return (
            Column("figure"),
            Column("before", self.before),
            Column("after", self.after),
            Column("since", value=lambda each: ", ".join(each.since) or None),
            Column("why", value=lambda each: "; ".join(each.why) or None),
        )


def upgrade(
    request: PlanRequest, *, before: str, after: str = VLLM, flags: Iterable[str] = ()
) -> Upgrade:
    """What an engine's plan becomes with another version.

    Args:
        request: The engine, by today's names of its flags.
        before: The version it runs on, from 0.10 on.
        after: A later one; by default the one whose rules are restated.
        flags: The words of the command, for those that ``after`` refuses.

    Raises:
        PlannerError: The input is wrong, or is none that ``before`` or ``after`` could be.
    """
    if request.planner == "vllm":
        raise InputError("upgrade: only one vLLM is installed; leave --planner vllm out")
    first, last = version_rules(before), version_rules(after)
    if (first.version, first.patch) >= (last.version, last.patch):
        raise InputError(f"upgrade: --to {after} is no later version than --from {before}")
    refused = tuple(refused_flags(flags, after))
    minors = [f"0.{n}" for n in range(first.version[1] + 1, last.version[1])]
    plans: list[tuple[str, Plan]] = []
    refusal = None
    for version in (before, *minors, after):
        try:
            plans.append((version, plan_of(at_version(request, version))))
        except PlannerError as error:
            if version in (before, after):
                refusal = f"vLLM {version}: {REFUSED}: {error}"
    changes = () if refusal else tuple(changes_of(plans))
    newest = plans[-1][1] if plans else None
    return Upgrade(
        model=request.found.id,
        gpu=None if newest is None else newest.gpu.name,
        before=before,
        after=after,
        changes=changes,
        refused_flags=refused,
        refusal=refusal,
        fits=refusal is None and not refused and newest is not None and newest.verdict == FITS,
        notes=tuple(dict.fromkeys(note for _, plan in plans[-1:] for note in plan.notes)),
    )


def at_version(request: PlanRequest, version: str) -> PlanRequest:
    """The request for that version, by the rules restated here."""
    return replace(request, planner="standalone", vllm_version=version)


def refused_flags(words: Iterable[str], version: str) -> Iterator[str]:
    """Why the parser of a version refuses them, flag by flag."""
    names = (word.partition("=")[0] for word in words if word.startswith("--"))
    for name in dict.fromkeys("--" + each[2:].replace("_", "-") for each in names):
        older = older_flag(name)
        if older is not None and is_today(version):
            yield older.message
        elif (refusal := refused_by(name, version)) is not None:
            yield refusal


def changes_of(plans: list[tuple[str, Plan]]) -> Iterator[Change]:
    """Every figure that is not the same in the first and the last; the headline in any case."""
    steps = {label: steps_of(plans, path) for label, path, _ in FIGURES}
    told = all_reasons()
    for label, path, _ in FIGURES:
        before, after = figure(plans[0][1], path), figure(plans[-1][1], path)
        if before == after and label not in ALWAYS:
            continue
        brought = {version_rules(version).version for version in steps[label]}
        why = [text for since, moved, text in told if since in brought and label in moved]
        causes = [each for each in FOLLOWS.get(label, ()) if {*steps[each]} & {*steps[label]}]
        if causes:
            why.append(f"follows {', '.join(causes)}")
        yield Change(
            figure=label,
            before=before,
            after=after,
            since=steps[label],
            why=tuple(dict.fromkeys(why)),
        )


def steps_of(plans: list[tuple[str, Plan]], path: str) -> tuple[str, ...]:
    """The versions whose figure is another than the one before."""
    values = [figure(plan, path) for _, plan in plans]
    return tuple(
        version
        for (version, _), (earlier, value) in zip(plans[1:], pairwise(values), strict=True)
        if value != earlier
    )


def figure(plan: Plan, path: str) -> Any:
    """One figure of a plan."""
    if path == "blocks":
        return sum(group.blocks_per_request for group in plan.kv_cache.groups)
    return attrgetter(path)(plan)
