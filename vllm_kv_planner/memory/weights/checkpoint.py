"""What a checkpoint at hand says of the weights: whether it is whole, and the model's.

Where nobody wrote a rule for the architecture, its bytes are the weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache

from ...config.find import is_offline
from ...config.found import FoundConfig
from ...engine_args.engine_args import EngineArgs
from ...engine_args.setup import Keyed
from ...errors import ConfigError, printable
from ...kv_cache.spec import cdiv
from ...model.description import ModelDescription
from ...records import replace
from ...units import MIB, gib
from .estimate import StageWeights, WeightsEstimate
from .headers import CheckpointHeaders
from .local_checkpoint import FORMATS, Held, NotWhole, held

_SHARE_WHOLE = 0.03
_SHARE_CUT = 0.08
_FAR_OFF = 2
_PACKED = 4  # a checkpoint of 16 bits that is loaded in 4
_LITTLE = 64 * MIB  # rotary caches and the like, which no checkpoint has
_NOT_IN_CHECKPOINTS = ("draft", "LoRA", "rotary")


def check_whole(found: FoundConfig, load_format: str, layers: int | None) -> None:
    """Refuse a model whose folder holds a part of a checkpoint.

    Args:
        found: The model; what is named by its config.json alone is planned by that alone.
        load_format: ``--load-format``; those that do not read such files are not looked at.
        layers: That the config speaks of.

    Raises:
        ConfigError: Files or tensors are not there, a file ends too soon, or holds no tensors.
    """
    there = at_hand(found, load_format)
    if there is not None and layers is not None:
        _check_layers(there.names, there.files, layers)


def at_hand(found: FoundConfig, load_format: str) -> Held | None:
    """What the model's folder holds of its checkpoint; None where that is nothing, or not used.

    A part in Hugging Face's cache is nothing, unless offline: vLLM fetches the rest.

    Raises:
        ConfigError: As ``check_whole``.
    """
    path = found.path
    if found.source not in ("local", "hf-cache") or path is None or load_format not in FORMATS:
        return None
    if path == os.path.expanduser(found.id):
        return None
    return _held(Keyed(found, (path, id(found.config))), load_format)


@lru_cache(maxsize=16)
def _held(found: Keyed, load_format: str) -> Held | None:
    folder = os.path.dirname(found.value.path)
    try:
        return held(folder, load_format)
    except NotWhole:
        if found.value.source == "local" or is_offline():
            raise
        return None


def held_against(
    weights: WeightsEstimate, found: FoundConfig, args: EngineArgs, *, dtype: str
) -> WeightsEstimate:
    """The weights that the config makes, compared with the checkpoint at hand.

    A rank's share holds no more than the whole checkpoint, whose tensors may be wider where they
    are stored (float32, or quantised while loading) but not far narrower.

    Args:
        weights: As the rules count them.
        found: The model.
        args: The engine's flags.
        dtype: The engine's, resolved.

    Raises:
        ConfigError: The checkpoint holds less than half of that.
    """
    there = at_hand(found, args.load_format)
    if there is None:
        return _without(weights, found, args)
    counted = [_stored(stage) for stage in weights.stages]
    what = f"{printable(found.id)}: its safetensors files hold {gib(there.num_bytes)}"
    wide = 2 if dtype == "float32" else 1
    if sum(counted) > _FAR_OFF * wide * there.num_bytes + _LITTLE:
        raise ConfigError(
            f"{what}, config.json speaks of at least {gib(sum(counted))}: the checkpoint is not "
            "whole, or another model's"
        )
    ranks = args.num_gpus // max(args.pipeline_parallel_size, 1)
    stored = found.config.get("dtype", found.config.get("torch_dtype"))
    wide = 2 if stored in ("float32", "float", None) else 1
    packed = _PACKED if args.quantization is not None else 1
    if there.num_bytes > _FAR_OFF * wide * packed * ranks * sum(counted) + _LITTLE:
        said = (
            f"{what}, config.json speaks of {gib(sum(counted))} on each of {ranks:,} GPUs: is "
            "it this model's?"
        )
        return replace(weights, notes=(*weights.notes, said))
    return weights


def _without(weights: WeightsEstimate, found: FoundConfig, args: EngineArgs) -> WeightsEstimate:
    """Says of a folder without a checkpoint that it has none."""
    is_file = found.path == os.path.expanduser(found.id)
    if found.source != "local" or is_file or args.load_format not in FORMATS:
        return weights
    said = f"{printable(found.id)} holds no safetensors files: weights are those of its config.json"
    return replace(weights, notes=(*weights.notes, said))


def _stored(stage: StageWeights) -> int:
    """Bytes of a stage's rank that come from the model's checkpoint."""
    return stage.num_bytes - sum(stage.parts.get(part, 0) for part in _NOT_IN_CHECKPOINTS)


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
        _check_layers(headers.tensors, headers.files, layers)
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


def stored_layers(model: ModelDescription) -> int:
    """Layers that a checkpoint of the model has."""
    # HRM runs the layers of two stacks many times; the checkpoint has each once
    layers: int = model.text_config.get("num_layers_per_stack", model.num_hidden_layers)
    return layers


def _check_layers(tensors: Iterable[str], files: Sequence[str], expected: int) -> None:
    """Some list of modules is as long as the config's layers.

    Modules of a list carry their number in their tensors' names (``model.layers.3.mlp.…``); the
    first number of a name is the layer's, the next ones those of experts and the like.
    """
    numbers: dict[str, set[str]] = {}
    for name in tensors:
        words = name.split(".")
        at = next((i for i, word in enumerate(words) if word.isdigit()), None)
        if at is not None:
            numbers.setdefault(".".join(words[:at]), set()).add(words[at])
    longest = max(numbers, key=lambda prefix: len(numbers[prefix]), default=None)
    held = 0 if longest is None else len(numbers[longest])
    if held < expected:
        raise ConfigError(
            f"the checkpoint holds {held} layers ({', '.join(files[:2])}"
            f"{', …' if len(files) > 2 else ''}), config.json says {expected}: it is not "
            "whole"
        )
