"""Draft models: their layers join the target's in the static forward context.

Source: vLLM 0.33 ``v1/worker/gpu/spec_decode/`` (Model Runner V2) and
``v1/worker/gpu_model_runner.py`` ``load_model`` (V1).
"""

from __future__ import annotations

from typing import Any

import torch

from .names import name, optional_name
from .on_meta import on_meta

_NO_MODEL = ("ngram", "ngram_gpu", "suffix")


def load_draft(vllm_config: Any, target: Any, *, v2: bool) -> tuple[Any, Any]:
    """The draft model and, under Model Runner V2, its speculator; None where there is none."""
    speculative = vllm_config.speculative_config
    if speculative is None or not name("parallel_state").get_pp_group().is_last_rank:
        return None, None
    if v2:
        return _load_v2(vllm_config, target)
    if speculative.draft_model_config is None or speculative.method in _NO_MODEL:
        return None, None
    layer_type = name("AttentionLayerBase")
    layers_of = name("get_layers_from_vllm_config")
    before = set(layers_of(vllm_config, layer_type))
    draft = _model_v1(vllm_config)
    layers = layers_of(vllm_config, layer_type)
    for layer in set(layers) - before:
        layers[layer].is_draft_layer = True
    return draft, None


def _model_v1(vllm_config: Any) -> Any:
    """The draft as Model Runner V1 builds it, by its proposer's own method."""
    speculative = vllm_config.speculative_config
    independent = speculative.method == "draft_model"
    kind = optional_name("DraftModelProposer" if independent else "EagleProposer")
    if hasattr(kind, "_get_model"):
        proposer = object.__new__(kind)  # without its buffers
        proposer.vllm_config, proposer.speculative_config = vllm_config, speculative
        if independent:
            proposer._raise_if_draft_tp_mismatch()
        return proposer._get_model()
    with name("set_model_tag")("eagle_head"):
        return name("get_model")(
            vllm_config=vllm_config, model_config=speculative.draft_model_config
        )


def _load_v2(vllm_config: Any, target: Any) -> tuple[Any, Any]:
    method = vllm_config.speculative_config.method
    for utilities in (name("eagle_utils"), optional_name("dflash_utils")):
        if hasattr(utilities, "_should_share"):
            utilities._should_share = lambda *asked: _shares(method, *asked)
    _check_hidden_states(vllm_config, target)
    with on_meta():
        speculator = name("init_speculator")(vllm_config, torch.device("meta"), None)
    if not isinstance(speculator, name("DraftModelSpeculator")):
        return None, speculator
    speculator.load_model(target)
    return speculator.model, speculator


def _shares(method: str, draft: Any, flag: str, own: Any, target: Any) -> bool:
    """Whether a draft takes over the target's embedding or head.

    vLLM learns from the checkpoint which of them the draft has for itself, and compares the
    values; without values, what it declares is kept, EAGLE-3's head is its own, and so is any table
    for another number of words: no checkpoint leaves these out.
    """
    if getattr(draft, flag, False) or (method == "eagle3" and flag == "has_own_lm_head"):
        return False
    if own is None or target is None:
        return True
    return int(own.num_embeddings) == int(target.num_embeddings)


def _check_hidden_states(vllm_config: Any, target: Any) -> None:
    """vLLM's own refusal of targets that hand out no hidden states of inner layers."""
    utilities = optional_name("eagle3_utils")
    needs = getattr(utilities, "requires_aux_hidden_states", None)
    speculative = vllm_config.speculative_config
    if needs is not None and needs(speculative):
        over_stages = vllm_config.parallel_config.pipeline_parallel_size > 1
        utilities.set_eagle3_aux_hidden_state_layers(target, speculative, over_stages)
