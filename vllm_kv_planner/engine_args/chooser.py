"""The attention backend of a layer: its own, else the selector's choice."""

from __future__ import annotations

from ..model.context import CacheContext
from ..model.layers.base import CacheLayer
from ..records import replace
from .attention_backend import (
    AttentionBackend,
    EngineFacts,
    Preferences,
    fixed_backend,
    select_backend,
)
from .cache_layers import Chooser
from .engine_args import EngineArgs


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
