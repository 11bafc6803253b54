"""Weights of the last engines that were asked about: most of what a plan takes is their shapes.

Whoever plans many set-ups of one model (a sweep, a search) divides it in few ways.
"""

from __future__ import annotations

from functools import lru_cache

from ...engine_args.described import Keyed
from ...engine_args.setup import EngineSetup
from .estimate import WeightsEstimate
from .per_rank import setup_weights

NOT_IN_WEIGHTS = frozenset(
    [
        "data_parallel_size",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "kv_cache_memory_bytes",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
    ]
)
"""What changes from set-up to set-up and not the weights: ``weights_per_rank`` reads none of it."""


def remembered_weights(setup: EngineSetup, version: tuple[int, int]) -> WeightsEstimate:
    """As ``setup_weights``.

    Raises:
        UnsupportedError: As ``setup_weights``.
    """
    return _remembered(Keyed(setup, _key(setup)), version)


@lru_cache(maxsize=256)
def _remembered(setup: Keyed, version: tuple[int, int]) -> WeightsEstimate:
    # the set-up is kept with its answer, so that the ids in its key cannot come to mean others
    return setup_weights(setup.value, version=version)


def _key(setup: EngineSetup) -> tuple[object, ...]:
    args = vars(setup.args)
    return (
        id(setup.model),
        id(setup.draft),
        setup.gpu.platform,
        setup.gpu.compute_capability,
        setup.resolved.layers_per_stage,
        setup.resolved.dtype.name,
        # data-parallel engines share the experts, if there are any
        setup.args.data_parallel_size if setup.model.is_moe else 1,
        *(repr(value) for name, value in args.items() if name not in NOT_IN_WEIGHTS),
    )
