"""The model's cache layers as this engine runs them: backends, block size, specs per stage.

The order is vLLM's: every layer's backend is chosen, the block size follows from the backends,
hybrids align it with their states' pages, and then every layer says how large its cache is.

Source: vLLM 0.33 ``platforms/interface.py`` ``Platform.update_block_size_for_backend``;
``v1/worker/gpu/attn_utils.py`` ``get_kv_cache_spec``; of shared caches
``model_executor/layers/attention/attention.py`` ``validate_kv_sharing_target``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from ..errors import InputError
from ..kv_cache.group import Layers, resolve_layout, supported_by_all
from ..kv_cache.specs import KVCacheSpec, MLAAttentionSpec, SlidingWindowSpec
from ..model.description import ModelDescription
from ..model.layers.attention import Attention
from ..model.layers.base import CacheContext, CacheLayer
from ..records import dataclass, field, replace
from .attention_backend import (
    AttentionBackend,
    EngineFacts,
    Preferences,
    fixed_backend,
    select_backend,
)
from .engine_args import EngineArgs

Chooser = Callable[[CacheLayer, CacheContext], AttentionBackend | None]
"""The backend of a layer; None for states."""


Sizer = Callable[[list[AttentionBackend]], CacheContext]
"""The context with the block size that a stage with these backends settles on."""


@dataclass(frozen=True, kw_only=True)
class DraftCache:
    """A draft model's cache layers, which lie on the last stage, behind the target's.

    Attributes:
        layers: The layers.
        backends: Of each its backend; None for states.
        inside: The engine as they see it.
        extra_retained_tokens: Tokens that all windows of the engine keep for it.
    """

    layers: tuple[CacheLayer, ...]
    backends: tuple[AttentionBackend | None, ...]
    inside: Callable[[CacheContext], CacheContext]
    extra_retained_tokens: int = 0

    def specs(self, context: CacheContext) -> Layers:
        """What the layers keep, by name."""
        seen = self.inside(context)
        each = zip(self.layers, self.backends, strict=True)
        specs = [layer.cache_spec(seen, backend) for layer, backend in each]
        return {f"draft.{i}": spec for i, spec in enumerate(specs) if spec is not None}

    def retained(self, layers: Layers) -> Layers:
        """The same layers, their windows with room for several modules that predict tokens."""
        extra = self.extra_retained_tokens
        if not extra:
            return layers
        made: dict[int, KVCacheSpec] = {}
        for spec in layers.values():
            if isinstance(spec, SlidingWindowSpec) and id(spec) not in made:
                made[id(spec)] = replace(spec, extra_retained_tokens=extra)
        return {name: made.get(id(spec), spec) for name, spec in layers.items()}


@dataclass(frozen=True, kw_only=True)
class CacheLayers:
    """What the KV cache is planned from.

    Attributes:
        stages: Per pipeline stage its layers' specs, by layer name.
        layout: The KV cache layout.
        backends: Names of the distinct attention backends, in layer order.
        backend_of: The backend of each layer that has one, by its name.
    """

    stages: tuple[Layers, ...]
    layout: str
    backends: tuple[str, ...]
    backend_of: Mapping[str, AttentionBackend] = field(default_factory=dict, hash=False)


Variant = tuple[int, bool]
"""A kind of layer, and whether its KV cache is kept unquantised."""


def variants(model: ModelDescription, context: CacheContext) -> Sequence[Variant]:
    """The variant of every layer, in layer order."""
    skipped = frozenset(context.kv_cache_dtype_skip_layers)
    if not skipped:
        return model.plain_variants
    return [
        (kind, str(layer.index) in skipped)
        for kind, layer in zip(model.kind_of_layer, model.layers, strict=True)
    ]


def representatives(model: ModelDescription, context: CacheContext) -> Mapping[Variant, CacheLayer]:
    """The first layer of every variant, in layer order."""
    if not context.kv_cache_dtype_skip_layers:
        return model.first_of_kind
    found: dict[Variant, CacheLayer] = {}
    for variant, layer in zip(variants(model, context), model.layers, strict=True):
        found.setdefault(variant, layer)
    return found


def backend_of_each(
    model: ModelDescription, context: CacheContext, choose: Chooser
) -> dict[Variant, AttentionBackend | None]:
    """The attention backend of every variant, in layer order; None for states."""
    return {
        variant: choose(layer, context)
        for variant, layer in representatives(model, context).items()
    }


def distinct(backends: Iterable[AttentionBackend | None]) -> list[AttentionBackend]:
    """Each backend class once, in layer order; cross-attention derives classes of its own."""
    found = {(each.name, each.attn_type): each for each in backends if each is not None}
    return list(found.values())


def joined(
    own: list[AttentionBackend], drafted: Sequence[AttentionBackend | None]
) -> list[AttentionBackend]:
    """The target's backends, and behind them those of the draft that are others."""
    known = {(each.name, each.attn_type) for each in own}
    more = distinct(drafted)
    return [*own, *(each for each in more if (each.name, each.attn_type) not in known)]


def build_cache_layers(
    model: ModelDescription,
    context: CacheContext,
    backends: Mapping[Variant, AttentionBackend | None],
    layers_per_stage: Sequence[int],
    with_block_size: Sizer,
    draft: DraftCache | None = None,
) -> CacheLayers:
    """Every layer's spec, dealt out to the pipeline stages.

    Each stage settles on a block size by the backends of its own layers: one without attention
    keeps the default.
    """
    drafted = () if draft is None else draft.backends
    first, each = representatives(model, context), variants(model, context)
    stages: list[Layers] = []
    made: dict[tuple[tuple[str, str], ...], dict[Variant, KVCacheSpec]] = {}
    by_stage = stage_layers(model, tuple(layers_per_stage))
    backend_of = {name: backends.get(each[i]) for stage in by_stage for name, i in stage}
    backend_of.update((f"draft.{i}", backend) for i, backend in enumerate(drafted))
    for number, stage in enumerate(by_stage):
        is_last = number == len(by_stage) - 1
        present = first if len(layers_per_stage) == 1 else {each[i] for _, i in stage}
        chosen = [backends[variant] for variant in first if variant in present]
        own = joined(distinct(chosen), drafted) if is_last else distinct(chosen)
        classes = tuple((backend.name, backend.attn_type) for backend in own)
        if classes not in made:
            made[classes] = cache_specs(first, backends, with_block_size(own))
        specs = made[classes]
        stages.append({name: specs[each[i]] for name, i in stage if each[i] in specs})
        if draft is not None and is_last:
            stages[-1] = {**stages[-1], **draft.specs(with_block_size(own))}
    if draft is not None:
        stages = [draft.retained(stage) for stage in stages]
    used = joined([each for each in backends.values() if each is not None], drafted)
    candidates = supported_by_all([backend.layouts for backend in used])
    kept = [*(spec for specs in made.values() for spec in specs.values()), *stages[-1].values()]
    return CacheLayers(
        stages=tuple(stages),
        layout=resolve_layout(candidates, kept),
        backends=tuple(dict.fromkeys(backend.name for backend in distinct(used))),
        backend_of={name: each for name, each in backend_of.items() if each is not None},
    )


def cache_specs(
    layers: Mapping[Variant, CacheLayer],
    backends: Mapping[Variant, AttentionBackend | None],
    context: CacheContext,
) -> dict[Variant, KVCacheSpec]:
    """What each variant keeps; those that keep nothing are left out."""
    specs = {
        variant: layer.cache_spec(context, backends[variant]) for variant, layer in layers.items()
    }
    return {variant: spec for variant, spec in specs.items() if spec is not None}


def stored_kv_cache_dtype(
    model: ModelDescription,
    context: CacheContext,
    backends: Mapping[Variant, AttentionBackend | None],
) -> str:
    """The engine's KV cache dtype once the target is built, which sparse latents set anew.

    Source: vLLM 0.33 ``MLAAttention.__init__``, ``models/deepseek_v4/attention.py``.
    """
    if model.use_mla:
        for spec in cache_specs(representatives(model, context), backends, context).values():
            if isinstance(spec, MLAAttentionSpec) and spec.kv_cache_dtype.endswith("_ds_mla"):
                return spec.kv_cache_dtype
    return context.kv_cache_dtype


@lru_cache(maxsize=64)
def stage_layers(
    model: ModelDescription, layers_per_stage: tuple[int, ...]
) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Name and position of every stage's layers.

    Layers behind the last decoder layer (draft models) go to the last stage.
    """
    bounds = list(accumulate(layers_per_stage))
    stages: list[list[tuple[str, int]]] = [[] for _ in bounds]
    for position, layer in enumerate(model.layers):
        stage = min(bisect_right(bounds, layer.index), len(bounds) - 1)
        stages[stage].append((str(position), position))
    return tuple(map(tuple, stages))


def chooser(args: EngineArgs, engine: EngineFacts, preferences: Preferences) -> Chooser:
    """What chooses the backend of every layer of one model."""

    def choose(layer: CacheLayer, context: CacheContext) -> AttentionBackend | None:
        request = layer.backend_request(context)
        fixed = layer.fixed_backend(context)
        if fixed is not None:
            return fixed_backend(
                fixed,
                capability=engine.rocm or context.compute_capability,
                request=request,
                facts=engine,
            )
        if request is None:
            return None
        if preferences.use_non_causal:
            request = replace(request, use_non_causal=True)
        return select_backend(
            request,
            capability=engine.rocm or context.compute_capability,
            requested=preferences.backend,
            block_size=args.block_size,
            facts=engine,
        )

    return choose


def check_kv_sharing(model: ModelDescription, layers_per_stage: Sequence[int]) -> None:
    """Refuse stages whose layers would read a cache of another stage.

    Raises:
        InputError: Which layer, and what to do.
    """
    for number, stage in enumerate(stage_layers(model, tuple(layers_per_stage))):
        own: set[bool] = set()
        for _, position in stage:
            layer = model.layers[position]
            if not isinstance(layer, Attention):
                continue
            windowed = layer.sliding_window is not None
            if not layer.kv_sharing:
                own.add(windowed)
            elif windowed not in own:
                raise InputError(
                    f"--pipeline-parallel-size {len(layers_per_stage)}: layer {layer.index} reads "
                    f"the KV cache of a layer outside its stage {number + 1}, which vLLM refuses "
                    "(KV sharing target layer is not valid); use tensor parallel"
                )
