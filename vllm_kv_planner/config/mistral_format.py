"""A config as vLLM makes it of Mistral's own ``params.json``, where that is all there is.

Source: vLLM 0.33 ``transformers_utils/configs/mistral.py`` ``adapt_config_dict``,
``transformers_utils/config.py`` ``MistralConfigParser``. Decoders of text without experts are
read; the others are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, UnsupportedError
from ..files.json_file import shown as shown_value
from .found import PARAMS_FILE

_NAMES = {
    "dim": "hidden_size",
    "norm_eps": "rms_norm_eps",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "tied_embeddings": "tie_word_embeddings",
}
_YARN = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_position_embeddings",
    "beta": "beta_fast",
    "alpha": "beta_slow",
}
_NOT_READ = {
    "moe": "experts",
    "qk_nope_head_dim": "latent attention",
    "multimodal": "images or audio",
    "vision_encoder": "images",
}
_DEFAULT_LENGTH = 128_000


def config_of_params(params: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What config.json would hold.

    Raises:
        UnsupportedError: Experts, latent attention, images, audio or a state space model.
        ConfigError: A sliding window or quantization that vLLM does not read either.
    """
    for key, what in _NOT_READ.items():
        if params.get(key):
            raise UnsupportedError(
                f"{where}: params.json ({key}) describes a model with {what}, which is read from a "
                "config.json alone: give its Hub id, or a folder that has one"
            )
    if params.get("model_type") not in (None, "transformer"):
        raise UnsupportedError(
            f"{where}: params.json: model_type {shown_value(params['model_type'])} is not read"
        )
    config = {_NAMES.get(key, key): value for key, value in params.items()}
    config["architectures"] = ["MistralForCausalLM"]
    config["model_type"] = "transformer"
    config.setdefault("hidden_act", "silu")
    config.setdefault("tie_word_embeddings", False)
    if config.get("max_position_embeddings") is None:
        config["max_position_embeddings"] = _DEFAULT_LENGTH
    config.setdefault("max_seq_len", config["max_position_embeddings"])
    if config.get("dtype") is None:
        config["dtype"] = "bfloat16"
    _read_window(config, where)
    _read_quantization(config, where)
    yarn = config.pop("yarn", None)
    if isinstance(yarn, Mapping) and yarn:
        names = _YARN.items()
        config["rope_parameters"] = {
            "rope_type": "yarn",
            "mscale_all_dim": 1,
            **{new: yarn[old] for old, new in names if old in yarn},
        }
        if config.get("rope_theta"):
            config["rope_parameters"]["rope_theta"] = config.pop("rope_theta")
    return config


def note_of(params: Mapping[str, Any]) -> str:
    """What the reader of a plan should know."""
    said = f"{PARAMS_FILE} (Mistral's format) is read as vLLM reads it"
    return said if params.get("dtype") else f"{said}; it states no dtype: bfloat16 taken"


def _read_window(config: dict[str, Any], where: str) -> None:
    """One window for all layers, or one a layer in turn, ``null`` for full attention."""
    window, layers = config.get("sliding_window"), config.get("num_hidden_layers")
    if not window or not isinstance(layers, int) or isinstance(layers, bool):
        return
    turns = window if isinstance(window, list) else [window]
    sizes = {size for size in turns if size is not None}
    if len(sizes) > 1 or not all(type(size) is int for size in sizes) or layers > 10_000:
        raise ConfigError(f"{where}: params.json: sliding_window {shown_value(window)} is not read")
    config["layer_types"] = [
        "full_attention" if size is None else "sliding_attention"
        for size in turns * (layers // len(turns))
    ]
    config["sliding_window"] = next(iter(sizes), None)


def _read_quantization(config: dict[str, Any], where: str) -> None:
    stated = config.pop("quantization", None)
    if not stated:
        return
    values = stated if isinstance(stated, Mapping) else {}
    method = str(values.get("quant_method", "")).lower().replace("_", "-")
    if values.get("qformat_weight") == "fp8_e4m3":
        if values.get("qscheme_act") not in ("NO_SCALES", "TENSOR", None):
            raise ConfigError(f"{where}: params.json: qscheme_act is neither NO_SCALES nor TENSOR")
        is_dynamic = values.get("qscheme_act") == "NO_SCALES"
        config["quantization_config"] = {
            "quant_method": "fp8",
            "activation_scheme": "dynamic" if is_dynamic else "static",
        }
    elif method == "compressed-tensors":
        config["quantization_config"] = {**values, "quant_method": method}
    else:
        raise ConfigError(f"{where}: params.json: quantization {shown_value(stated)} is not known")
