"""Weights per rank from what a checkpoint holds, where nobody wrote a rule for its architecture."""

from __future__ import annotations

from ...engine_args.engine_args import EngineArgs
from ...errors import ConfigError
from ...kv_cache.math import cdiv
from .estimate import StageWeights, WeightsEstimate
from .headers import CheckpointHeaders

_SHARE_WHOLE = 0.03
_SHARE_CUT = 0.08


def checkpoint_weights(
    headers: CheckpointHeaders, args: EngineArgs, *, layers: int | None = None
) -> WeightsEstimate:
    """The checkpoint's bytes, divided evenly over the GPUs of one replica.

    ``layers`` are those the config says the model has: as many must be in the checkpoint.

    What vLLM adds (rotary caches, padding) and what it keeps whole on every GPU (norms, routers,
    KV heads fewer than GPUs) is not known; ``uncertainty_bytes`` makes room for it, and for an
    embedding or a head that one pipeline stage has more than another.

    Raises:
        ConfigError: The checkpoint holds fewer layers.
    """
    if layers is not None:
        _check_layers(headers, layers)
    divided = args.tensor_parallel_size * args.pipeline_parallel_size
    each = cdiv(headers.total_bytes, divided)
    share = _SHARE_WHOLE if divided == 1 else _SHARE_CUT
    largest = max((tensor.num_bytes for tensor in headers.tensors.values()), default=0)
    more = cdiv(largest, args.tensor_parallel_size) if args.pipeline_parallel_size > 1 else 0
    stage = StageWeights(num_bytes=each, parts={"checkpoint": each})
    names = "1 file" if len(headers.files) == 1 else f"{len(headers.files)} files"
    return WeightsEstimate(
        stages=(stage,) * args.pipeline_parallel_size,
        provenance=f"the checkpoint's tensors ({names}, {headers.source}), divided evenly",
        uncertainty_bytes=int(each * share) + more,
    )


def _check_layers(headers: CheckpointHeaders, expected: int) -> None:
    """Some list of modules is as long as the config's layers.

    Modules of a list carry their number in their tensors' names (``model.layers.3.mlp.…``); the
    first number of a name is the layer's, the next ones those of experts and the like.
    """
    numbers: dict[str, set[str]] = {}
    for name in headers.tensors:
        words = name.split(".")
        at = next((i for i, word in enumerate(words) if word.isdigit()), None)
        if at is not None:
            numbers.setdefault(".".join(words[:at]), set()).add(words[at])
    longest = max(numbers, key=lambda prefix: len(numbers[prefix]), default=None)
    held = 0 if longest is None else len(numbers[longest])
    if held < expected:
        raise ConfigError(
            f"the checkpoint holds {held} layers ({', '.join(headers.files[:2])}"
            f"{', …' if len(headers.files) > 2 else ''}), config.json says {expected}: it is not "
            "whole"
        )
