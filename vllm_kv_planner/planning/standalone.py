"""One engine by the rules restated here, stage after stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ..engine_args.setup import EngineSetup, described, named, resolve_setup
from ..engine_args.versions import TODAY
from ..errors import UnsupportedError, WeightsUnknownError
from ..gpu.catalogue import DEFAULT_GPU
from ..kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from ..kv_cache.group import NoOneKind
from ..kv_cache.specs import RequestLimits
from ..memory.versions import VersionRules
from ..version import VLLM_VERSION, __version__
from .memory import KVMemory, kv_memory, unknown_memory
from .parts import all_notes, cache_info, draft_notes, engine_info, host_info, host_note
from .request import PlanRequest
from .types import DOES_NOT_FIT, FITS, GPUInfo, ModelInfo, Plan, PlannerInfo
from .verdict import Verdict, judged
from .versions import (
    as_built,
    as_logged,
    older_rules,
    request_limits,
    with_defaults,
)
from .weights import weights_of

if TYPE_CHECKING:
    from ..config.find import FoundConfig
    from ..memory.weights import WeightsEstimate


class StandalonePlan:
    """The stages from a request to its plan; each is worked out when it is first read, once.

    ``setup`` (every default resolved, every cache layer made) → ``limits`` (what bounds one
    request) → ``weights`` → ``memory`` (KV memory of every pipeline stage) → ``blocks`` and
    ``worst_blocks`` (if every part of the memory is as large as it may be) → ``verdict`` →
    ``plan``. Each raises a ``PlannerError`` where the engine cannot be planned; one line says why.

    Args:
        request: The engine; who it names as its planner is not asked here.
        weights: Where somebody counted them; else the rules here.
        sizes_at_least: Where the weights are not known, a plan without the figures that depend on
            them, instead of a refusal.
    """

    def __init__(
        self,
        request: PlanRequest,
        *,
        weights: WeightsEstimate | None = None,
        sizes_at_least: bool = False,
    ) -> None:
        self.request = request
        self._counted = weights
        self._sizes_at_least = sizes_at_least
        self._notes: tuple[str, ...] = ()

    @cached_property
    def rules(self) -> VersionRules | None:
        """What an older version does otherwise; None for the one whose rules are restated."""
        return older_rules(self.request.vllm_version)

    @property
    def version(self) -> str:
        """vLLM's version whose rules are used."""
        return VLLM_VERSION if self.rules is None else self.rules.name

    @cached_property
    def setup(self) -> EngineSetup:
        """The engine, on the default GPU where none is named."""
        request, args = self.request, self.request.args
        device = request.device
        device.check_count(args.num_gpus)
        model = as_built(described(request.found, args), self.rules)
        if self.rules is not None:
            args, self._notes = with_defaults(args, model, self.rules)
        with named(request.found):
            setup = resolve_setup(args, model, device, request.environment, self.rules or TODAY)
        check_checkpoints(setup, request.found)
        return setup

    @cached_property
    def limits(self) -> RequestLimits:
        """What bounds one request."""
        return request_limits(self.setup, self.rules)

    @cached_property
    def weights(self) -> WeightsEstimate:
        """Weights of every stage.

        Raises:
            WeightsUnknownError: No rule knows them, and no checkpoint is at hand.
        """
        return self._counted or weights_of(self.setup, self.request.found, self.version)

    @cached_property
    def memory(self) -> KVMemory:
        """What every stage's GPU has for its KV cache."""
        try:
            return kv_memory(
                self.setup,
                lambda: self.weights,
                self.version,
                self.request.machine,
                gpu_named=self.request.gpu is not None,
            )
        except WeightsUnknownError as refusal:
            if not self._sizes_at_least:
                raise
            return unknown_memory(self.setup, refusal)

    @cached_property
    def blocks(self) -> KVCachePlan:
        """The memory in blocks."""
        blocks = plan_blocks(self.setup, self.memory.available, self.limits)
        return as_logged(blocks, self.rules, self.limits)

    @property
    def planned_limits(self) -> RequestLimits:
        """What bounds one request of the length that is planned."""
        return self.limits.at_length(self.blocks.max_model_len)

    @cached_property
    def worst_blocks(self) -> KVCachePlan:
        """The same if every part of the memory is as large as it may be."""
        if self.memory.pessimistic == self.memory.available:
            return self.blocks
        return plan_blocks(self.setup, self.memory.pessimistic, self.limits)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the engine starts."""
        memory, blocks = self.memory, self.blocks
        best = None
        if memory.most and not blocks.fits:
            best = plan_blocks(self.setup, memory.most, self.limits)
        return judged(self.setup, memory, blocks, self.worst_blocks, self.version, best)

    @cached_property
    def plan(self) -> Plan:
        """The plan as the contract has it."""
        setup, found, memory = self.setup, self.request.found, self.memory
        blocks, verdict = self.blocks, self.verdict
        host = host_info(setup)
        return Plan(
            planner=PlannerInfo(name="standalone", version=__version__, vllm_version=self.version),
            model=ModelInfo(
                id=found.id,
                architecture=setup.model.architecture,
                config_source=found.source,
                revision=found.revision,
                num_layers=setup.model.num_hidden_layers,
            ),
            gpu=GPUInfo(
                name=setup.gpu.name,
                total_memory_bytes=setup.gpu.torch_total_bytes,
                num_gpus=setup.args.num_gpus,
            ),
            engine=engine_info(setup, blocks),
            memory=memory.info(blocks.tightest),
            kv_cache=cache_info(blocks, self.limits, memory_known=memory.unknown is None),
            verdict=verdict.word,
            limits=verdict.limits,
            host=host,
            headroom=None if verdict.word == DOES_NOT_FIT else memory.headroom(blocks.tightest),
            fits=verdict.word == FITS,
            notes=(
                *verdict.notes,
                *host_note(host),
                *found.notes,
                *draft_notes(setup),
                *all_notes(setup, blocks, self.worst_blocks),
                *memory.notes,
                *self.notes,
            ),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted: of the version's rules, and of the request."""
        notes = (*self._notes, *self.request.notes)
        if self.request.gpu is None:
            notes += (f"no GPU given: planned for {DEFAULT_GPU}; --gpu NAME for another",)
        return notes


def check_checkpoints(setup: EngineSetup, found: FoundConfig) -> None:
    """Refuse a model, or a draft model, whose folder holds a part of its checkpoint.

    Raises:
        ConfigError: Names the file and what is amiss.
    """
    draft = None if setup.draft is None else setup.draft.found
    for each in (found, draft):
        if each is None or each.path is None:
            continue
        from ..memory.weights.checkpoint import check_whole, stored_layers

        layers = stored_layers(setup.model) if each is found else None
        check_whole(each, setup.args.load_format, layers)


def plan_blocks(setup: EngineSetup, available: Sequence[int], limits: RequestLimits) -> KVCachePlan:
    """Divide each stage's ``available`` bytes of one GPU into blocks."""
    from ..engine_args.block_size import check_kernel_blocks
    from ..engine_args.caching import why_hybrid_is_off

    length = setup.resolved.length
    try:
        plan = plan_kv_cache(
            [
                Worker(layers=layers, available_bytes=size)
                for layers, size in zip(setup.cache.stages, available, strict=True)
            ],
            limits,
            layout=setup.cache.layout,
            model_max_len=longest_worth_trying(setup),
            auto_fit=length.auto_fit,
            num_gpu_blocks_override=setup.args.num_gpu_blocks_override,
            hybrid_kv_cache_manager=not setup.resolved.disable_hybrid_kv_cache_manager,
        )
    except NoOneKind as error:
        cause = why_hybrid_is_off(setup.args, setup.rules) or "--disable-hybrid-kv-cache-manager"
        raise UnsupportedError(f"{cause}: {error}") from None
    for worker in plan.workers:
        check_kernel_blocks(setup.cache, worker.groups)
    return plan


def longest_worth_trying(setup: EngineSetup) -> int:
    """The model's own length; the one asked for where the config names none, or it is longer."""
    length = setup.resolved.length
    derived = length.derived
    return max(length.max_model_len, int(derived) if derived < 1 << 40 else 0)
