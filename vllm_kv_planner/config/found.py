"""A model's config with the files beside it, where all of it was found, and what stands in for one.

ModelOpt's checkpoints before 0.31 state their quantisation in ``hf_quant_config.json`` alone, and a
config from elsewhere may come without that file, though the model's name promises one. Of Mistral's
own ``params.json`` decoders of text without experts are read; the others are refused by name.

Source: vLLM 0.33 ``transformers_utils/configs/mistral.py`` ``adapt_config_dict``,
``transformers_utils/config.py`` ``MistralConfigParser``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, InputError, UnsupportedError
from ..files.json_file import shown as shown_value
from ..records import dataclass, field

QUANT_FILE = "hf_quant_config.json"
"""Beside config.json: where ModelOpt checkpoints before 0.31 keep their quantization config."""
PARAMS_FILE = "params.json"
"""Of Mistral's own format, in place of config.json."""
ADAPTER_FILE = "adapter_config.json"
"""Of a LoRA adapter: its rank, and the model it belongs to."""


@dataclass(frozen=True)
class FoundConfig:
    """A model's config and where it came from.

    Attributes:
        id: The Hub id, or the path as given.
        config: The object in config.json. Not to be changed.
        source: ``local``, ``hf-cache``, ``hub``, ``custom``; of the bundled ones ``bundled``
            (two sources agree), ``bundled-one-source`` or ``bundled-derived``.
        revision: Commit hash where known.
        path: The file read; None for bundled and fetched configs.
        files: Side files present, by name, parsed: ``hf_quant_config.json``,
            ``adapter_config.json``.
        notes: What the reader of a plan should know of where it came from.
    """

    id: str
    config: Mapping[str, Any]
    source: str
    revision: str | None = None
    path: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def has_own_type(self) -> bool:
        """Whether ``model_type`` is not for transformers: copies of ours, and Mistral's format."""
        return self.source.startswith("bundled") or str(self.path).endswith(PARAMS_FILE)

    @property
    def with_quantization(self) -> Mapping[str, Any]:
        """The config, with the side file's quantization config where it states none itself.

        Source: vLLM 0.33 ``transformers_utils/config.py`` ``get_config``,
        ``model_executor/model_loader/weight_utils.py`` ``get_quant_config``.
        """
        beside = self.files.get(QUANT_FILE)
        own = self.config.get("quantization_config")
        if beside is None or not needs_quant_file(self.config):
            return self.config
        inner = beside.get("quantization") if isinstance(beside, Mapping) else None
        layers = inner.get("quantized_layers") if isinstance(inner, Mapping) else None
        kept = beside if own is None else own
        beside = kept if layers is None else {**kept, "quantized_layers": layers}
        return {**self.config, "quantization_config": beside}


def needs_quant_file(config: Mapping[str, Any]) -> bool:
    """Whether vLLM looks for a quantization config beside this one.

    It does where there is none, and for the layers of a ModelOpt config of mixed precision.
    """
    own = config.get("quantization_config")
    return own is None or (
        isinstance(own, Mapping)
        and own.get("quant_algo") == "MIXED_PRECISION"
        and "quantized_layers" not in own
    )


_NAMED = re.compile(
    r"(?<![a-z0-9])"
    r"(nvfp4|mxfp4|mxfp8|fp8|fp4|awq|gptq|int4|int8|w4a16|w8a16|w8a8|w4a8|w4a4)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_KEYS = ("quantization_config", "compression_config")


def named_quantization(name: str, config: Mapping[str, Any]) -> str | None:
    """What the model's name says of its weights where nothing else does.

    ``config`` includes what the side file states.
    """
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", "config.json")]
    found = _NAMED.search(parts[-1]) if parts else None
    if found is None or any(_states(part) for part in (config, config.get("text_config"))):
        return None
    return found[1].upper()


def _states(part: Any) -> bool:
    """Whether vLLM finds a method in it: a config without one loads as unquantised."""
    if not isinstance(part, Mapping):
        return False
    for key in _KEYS:
        stated = part.get(key)
        if isinstance(stated, Mapping):
            return bool(stated.get("quant_method") or stated.get("quantization"))
    return False


def planned_without(named: str, config: Mapping[str, Any], dtype: str | None) -> str:
    """The note for the reader of the plan."""
    said = "states no quantisation"
    if any(config.get(key) for key in _KEYS):
        said = "states no quant_method, without which vLLM 0.33 loads it as unquantised"
    return (
        f"the model's name says {named} but its config {said}: unless --quantization says "
        f"otherwise, weights and KV cache are planned as {dtype or 'unquantised'}; give the "
        f"model's own directory, with {QUANT_FILE} where it has one"
    )


def weights_unknown(named: str) -> str:
    """Why its weights are not predicted."""
    return (
        f"the model's name says {named} but neither its config nor {QUANT_FILE} states a "
        f"quantisation, so its weights are not known: give the model's own directory, "
        f"with {QUANT_FILE}"
    )


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


LONGEST = 10_000_000
"""Tokens a hand-made model takes; it has no length of its own."""
LARGEST = 65_536
"""Largest count or width that makes sense."""


def custom_config(
    *, layers: int | None, kv_heads: int | None, head_dim: int | None, heads: int | None = None
) -> FoundConfig:
    """The config of a decoder with these layers, planned like any other.

    Args:
        layers: Decoder layers, all of full attention.
        kv_heads: KV heads of a layer.
        head_dim: Width of a head, in elements.
        heads: Query heads; as many as KV heads where not given.

    Raises:
        InputError: A figure is missing or makes no sense.
    """
    needed = {"--layers": layers, "--kv-heads": kv_heads, "--head-dim": head_dim}
    for flag, value in needed.items():
        if value is None:
            raise InputError(
                f"--custom needs --layers, --kv-heads and --head-dim; {flag} is missing"
            )
    for flag, value in {**needed, "--heads": heads}.items():
        if value is not None and not 0 < value <= LARGEST:
            raise InputError(f"{flag} {value}: a number from 1 to {LARGEST:,}")
    assert layers is not None and kv_heads is not None and head_dim is not None
    queries = heads or kv_heads
    if queries % kv_heads:
        raise InputError(f"--heads {queries}: must be a multiple of --kv-heads {kv_heads}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "num_hidden_layers": layers,
        "num_attention_heads": queries,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": queries * head_dim,
        "intermediate_size": 4 * queries * head_dim,
        "vocab_size": 131_072,
        "max_position_embeddings": LONGEST,
    }
    name = f"custom: {layers} layers, {kv_heads} KV heads of {head_dim}"
    return FoundConfig(id=name, config=config, source="custom", revision=None, path=None, files={})
