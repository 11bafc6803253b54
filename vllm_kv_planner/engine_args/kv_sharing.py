"""Layers that read another layer's cache, dealt out to pipeline stages.

Source: vLLM 0.33 ``model_executor/layers/attention/attention.py``
``validate_kv_sharing_target``: the other layer has to be in the same stage. It is the last one of
the same kind (windowed or not) that keeps a cache of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..model.description import ModelDescription
from ..model.layers.attention import Attention
from .cache_layers import stage_layers


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
