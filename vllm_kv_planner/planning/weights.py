"""Weights of an engine's model: by the rules, held against the checkpoint at hand, or by it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..config.found import FoundConfig
from ..engine_args.setup import EngineSetup
from ..errors import ConfigError, UnsupportedError, WeightsUnknownError

if TYPE_CHECKING:
    from ..memory.weights import WeightsEstimate
    from ..memory.weights.headers import CheckpointHeaders


def weights_of(setup: EngineSetup, found: FoundConfig, vllm_version: str) -> WeightsEstimate:
    """Weights from the shapes of vLLM's layers; from the checkpoint where no rule knows them.

    Raises:
        WeightsUnknownError: A hand-made model, of which only the cache is described; or no rule
            for the architecture, and no checkpoint at hand.
        ConfigError: The checkpoint at hand is not whole, or not this model's.
    """
    from ..memory.weights import remembered_weights
    from ..memory.weights.checkpoint import checkpoint_weights, held_against, stored_layers

    if found.source == "custom":
        raise WeightsUnknownError(
            "a hand-made model's weights are not known: give the memory left for its KV cache with "
            "--kv-cache-memory-bytes N (bytes of one GPU, such as 40G)"
        )
    major, minor = vllm_version.split(".")[:2]
    try:
        counted = remembered_weights(setup, (int(major), int(minor)))
    except UnsupportedError as refusal:
        headers = _headers(found)
        if headers is None:
            # what a quantisation that nobody states makes of the cache is not known either
            unstated = setup.model.unstated_quantization is not None
            raise (UnsupportedError if unstated else WeightsUnknownError)(
                f"{refusal}; --kv-cache-memory-bytes N plans without predicting the memory"
            ) from None
        return checkpoint_weights(headers, setup.args, layers=stored_layers(setup.model))
    return held_against(counted, found, setup.args, dtype=setup.resolved.dtype.name)


def _headers(found: FoundConfig) -> CheckpointHeaders | None:
    """Headers of the model's checkpoint, on disk or on the Hub; None where there is none.

    Raises:
        ConfigError: As ``local_headers``, ``hub_headers``.
    """
    from ..config.find import is_offline
    from ..memory.weights.headers import hub_headers
    from ..memory.weights.local_checkpoint import NotWhole, local_headers

    asks = found.source in ("hub", "hf-cache") and not is_offline()
    if found.source in ("local", "hf-cache") and found.path is not None:
        try:
            headers = local_headers(os.path.dirname(found.path))
        except NotWhole:
            if not asks:
                raise
            headers = None
        if headers is not None:
            return headers
    if not asks:
        return None
    try:
        return hub_headers(found.id, found.revision or "main")
    except ConfigError:
        if found.source == "hub":
            raise  # it gave the config just now
        return None
