"""How many tokens a block has, once attention backends and state pages are known.

The order of the phases is vLLM's: backends' preference, then states beside attention, then
unquantised layers beside quantised ones, a last check; and of the workers, whether the kernels of a
group share a size.

Source: vLLM 0.33 ``platforms/interface.py`` ``Platform.update_block_size_for_backend`` and the
functions named below; ``v1/worker/utils.py`` ``prepare_kernel_block_sizes``,
``select_common_block_size``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import lcm

from ..errors import InputError, UnsupportedError
from ..kv_cache.group import KVCacheGroup, is_block_outermost
from ..kv_cache.spec import cdiv, round_up
from ..kv_cache.specs import AttentionSpec
from ..model.description import ModelDescription
from ..model.layers.base import CacheContext
from ..model.layers.mamba import common_checkpoint_alignment, largest_state_bytes
from ..records import replace
from .attention_backend import AttentionBackend, hybrid_bytes_per_token, layer_bytes_per_token
from .attention_backend.declaration import KernelBlock
from .cache_layers import CacheLayers
from .engine_args import EngineArgs
from .versions import TODAY, PlanningRules

DEFAULT_BLOCK_SIZE = 16
"""Tokens; vLLM's ``CacheConfig.DEFAULT_BLOCK_SIZE``."""
LATENT_HYBRID_BLOCK = 128
"""Tokens; latent decode kernels want whole runs of this many beside states."""


def with_block_size(
    args: EngineArgs,
    model: ModelDescription,
    context: CacheContext,
    backends: Sequence[AttentionBackend],
    rules: PlanningRules,
) -> CacheContext:
    """The context with the block size that backends, states and unquantised layers agree on."""
    if not backends:
        return context
    before = args.block_size or preferred_block_size(backends)
    context = _aligned(replace(context, block_size=before), model, backends, rules)
    check_aligned(backends, before, context.block_size)
    validate_block_size(
        context.block_size,
        decode_context_parallel_size=args.decode_context_parallel_size,
        cp_kv_cache_interleave_size=args.cp_kv_cache_interleave_size or 1,
    )
    return context


def _aligned(
    context: CacheContext,
    model: ModelDescription,
    backends: Sequence[AttentionBackend],
    rules: PlanningRules,
) -> CacheContext:
    """Sizes at which pages of attention, of states and of unquantised layers agree."""
    if model.is_hybrid:
        context = align_hybrid(
            context,
            backends,
            attention_bytes_per_token=hybrid_bytes_per_token(
                backends[0],
                dtype=context.dtype,
                kv_cache_dtype=context.kv_cache_dtype,
                use_mla=model.use_mla,
                has_skip_layers=bool(context.kv_cache_dtype_skip_layers),
            ),
            mamba_page_bytes=largest_state_bytes(model.first_of_kind.values(), context),
            use_mla=model.use_mla,
            checkpoint_alignment=common_checkpoint_alignment(model.first_of_kind.values(), context),
            rules=rules,
        )
    if context.kv_cache_dtype_skip_layers:
        quantised, skipped = (
            layer_bytes_per_token(backends[0], dtype=context.dtype, kv_cache_dtype=kv_cache_dtype)
            for kv_cache_dtype in (context.kv_cache_dtype, "auto")
        )
        context = align_skip_layers(
            context,
            backends[0],
            quantised_bytes_per_token=quantised,
            skipped_bytes_per_token=skipped,
        )
    return context


def preferred_block_size(
    backends: Sequence[AttentionBackend], default: int = DEFAULT_BLOCK_SIZE
) -> int:
    """Smallest block, in tokens, that every backend accepts; the default where all do.

    Source: ``Platform._preferred_block_size_for_backends``. vLLM counts classes, and layers other
    than decoders' (cross-attention) derive one of their own.

    Raises:
        UnsupportedError: The backends share no size.
    """
    distinct = list({(each.name, each.attn_type): each for each in backends}.values())
    if len(distinct) == 1:
        return distinct[0].preferred_block_size(default)
    if all(backend.supports_block_size(default) for backend in distinct):
        return default
    sizes = (backend.kernel_block_sizes() or (1,) for backend in distinct)
    for candidate in sorted({lcm(*combination) for combination in product(*sizes)}):
        if all(backend.supports_block_size(candidate) for backend in distinct):
            return candidate
    names = ", ".join(dict.fromkeys(backend.name for backend in distinct))
    raise UnsupportedError(f"the attention backends {names} share no KV cache block size")


def align_hybrid(
    context: CacheContext,
    backends: Sequence[AttentionBackend],
    *,
    attention_bytes_per_token: int,
    mamba_page_bytes: int,
    use_mla: bool,
    checkpoint_alignment: int | None = None,
    rules: PlanningRules = TODAY,
) -> CacheContext:
    """Blocks long enough that an attention page covers a state page, which is padded to it.

    Source: ``Platform._align_hybrid_block_size``.

    Args:
        context: With the sizes so far; the user's block size is a lower bound only.
        backends: The model's attention backends in layer order; the first one leads.
        attention_bytes_per_token: Of one attention layer, as its backend packs it.
        mamba_page_bytes: Largest state page of the model, unpadded.
        use_mla: Whether attention is latent.
        checkpoint_alignment: Token grid of states exported inside a prefill; None exports none.
        rules: Those of the engine's version.
    """
    if mamba_page_bytes == 0:
        return context
    if attention_bytes_per_token == 0:
        raise InputError(
            "config.json: hidden_size and head counts make attention heads of width 0; head_dim "
            "or a larger hidden_size is needed"
        )
    step = max(backends[0].smallest_kernel_block(), context.block_size)
    if use_mla and rules.latent_hybrids_keep_runs:
        step = max(step, LATENT_HYBRID_BLOCK)
    aligned = context.mamba_cache_mode == "align"
    if aligned:
        step = lcm(step, checkpoint_alignment or 1)
    tokens = step * cdiv(mamba_page_bytes, step * attention_bytes_per_token)
    if rules.hybrids_suit_all_backends:
        tokens = round_up(tokens, lcm(*(each.smallest_kernel_block() for each in backends)))
    block_size = max(context.block_size, tokens)
    page = block_size * attention_bytes_per_token
    return replace(
        context,
        block_size=block_size,
        mamba_block_size=block_size if aligned else context.mamba_block_size,
        mamba_page_size_padded=context.mamba_page_size_padded if page == mamba_page_bytes else page,
    )


def align_skip_layers(
    context: CacheContext,
    backend: AttentionBackend,
    *,
    quantised_bytes_per_token: int,
    skipped_bytes_per_token: int,
) -> CacheContext:
    """Blocks long enough that a quantised page covers an unquantised one of fewer tokens.

    Source: ``Platform._align_heterogeneous_kv_block_size``.

    Raises:
        UnsupportedError: The quantised layer is the larger one.
    """
    if skipped_bytes_per_token < quantised_bytes_per_token:
        raise UnsupportedError(
            f"kv_cache_dtype_skip_layers: an unquantised layer takes {skipped_bytes_per_token} "
            f"bytes a token, less than the {quantised_bytes_per_token} of a quantised one"
        )
    if skipped_bytes_per_token == quantised_bytes_per_token:
        return context
    smallest = backend.smallest_kernel_block()
    step = max(smallest, context.block_size)
    needed = max(skipped_bytes_per_token * smallest, context.mamba_page_size_padded or 0)
    block_size = max(context.block_size, step * cdiv(needed, step * quantised_bytes_per_token))
    page = block_size * quantised_bytes_per_token
    padded_state = None if context.mamba_page_size_padded is None else page
    return replace(
        context,
        block_size=block_size,
        skip_page_size_padded=page,
        mamba_page_size_padded=padded_state,
    )


def check_aligned(backends: Sequence[AttentionBackend], before: int, block_size: int) -> None:
    """Refuse a block size that alignment moved to where some backend cannot follow.

    Source: ``Platform._check_aligned_block_size``.

    Raises:
        UnsupportedError: Some backend rejects it.
    """
    if block_size == before:
        return
    rejecting = {b.name: None for b in backends if not b.supports_block_size(block_size)}
    if rejecting:
        raise UnsupportedError(
            f"the KV cache block size of {block_size} tokens that this model's states or "
            f"unquantised layers ask for does not suit {', '.join(rejecting)}"
        )


def validate_block_size(
    block_size: int, *, decode_context_parallel_size: int = 1, cp_kv_cache_interleave_size: int = 1
) -> None:
    """Refuse a final block size that does not hold whole interleaved runs.

    Source: ``config/vllm.py`` ``VllmConfig.validate_block_size``.

    Raises:
        InputError: With decode context parallel, the interleave size does not divide it.
    """
    if decode_context_parallel_size > 1 and block_size % cp_kv_cache_interleave_size != 0:
        raise InputError(
            f"--cp-kv-cache-interleave-size {cp_kv_cache_interleave_size} must divide the block "
            f"size of {block_size} tokens"
        )


def check_kernel_blocks(cache: CacheLayers, groups: Iterable[KVCacheGroup]) -> None:
    """Refuse as a worker would.

    Raises:
        UnsupportedError: No block size that all backends of a group have in common.
    """
    if is_block_outermost(cache.layout):
        return
    for group in groups:
        if not isinstance(group.spec, AttentionSpec):
            continue
        wanted: dict[tuple[int, int], tuple[AttentionBackend, Sequence[KernelBlock]]] = {}
        for name, spec in group.layers.items():
            backend = cache.backend_of.get(name)
            if backend is not None and isinstance(spec, AttentionSpec):
                key = id(backend), id(spec)
                if key not in wanted:
                    wanted[key] = backend, _blocks(backend, spec)
        if not share_one(group.spec.block_size, [blocks for _, blocks in wanted.values()]):
            sizes = dict.fromkeys(f"{b.name}: {_shown(blocks)}" for b, blocks in wanted.values())
            raise UnsupportedError(
                f"No common block size for {group.spec.block_size} ({'; '.join(sizes)}); "
                "another --block-size or --attention-backend may do"
            )


def _blocks(backend: AttentionBackend, spec: AttentionSpec) -> Sequence[KernelBlock]:
    """What the layer's kernels take; a worker asks where the engine's config can be seen."""
    question = backend.layer_question(
        spec.head_size, spec.head_size_v, spec.kv_cache_dtype, int(spec.tokens_per_state)
    )
    return backend.answer(replace(question, facts=backend.facts))


def share_one(block_size: int, wanted: Sequence[Sequence[KernelBlock]]) -> bool:
    """Whether the block as it is, or a size that some kernel names and that divides it, suits."""
    named = {block.tokens for blocks in wanted for block in blocks if not block.multiples}
    candidates = {block_size, *(size for size in named if block_size % size == 0)}
    return any(all(_takes(blocks, size) for blocks in wanted) for size in candidates)


def _takes(blocks: Sequence[KernelBlock], size: int) -> bool:
    return any(
        size % block.tokens == 0 if block.multiples else size == block.tokens for block in blocks
    )


def _shown(blocks: Sequence[KernelBlock]) -> str:
    return ", ".join(
        f"multiples of {block.tokens}" if block.multiples else str(block.tokens) for block in blocks
    )
