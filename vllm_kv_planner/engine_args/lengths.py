"""The longest request a model takes, and the dtype it runs in: vLLM 0.33's derivation.

Restates of lengths ``_get_and_verify_max_len`` (vllm/config/model.py),
``derive_max_model_len_and_key`` (vllm/transformers_utils/model_arch_config_convertor.py) and the
RoPE clean-up of vllm/transformers_utils/config.py (YaRN does not lengthen: its configs state the
scaled length); of dtypes ``_get_and_verify_dtype``, ``_resolve_auto_dtype``, ``get_torch_dtype`` of
the same files, and ``supported_dtypes``, ``check_if_supports_dtype`` (vllm/platforms/cuda.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError, InputError
from ..files.json_file import shown
from ..records import dataclass
from .versions import TODAY, PlanningRules

# Tried in this order; the smallest wins.
LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
DEFAULT_LENGTH = 2048  # when no key is there
# Their max_position_embeddings is stated already scaled.
_UNSCALED_ROPE = ("longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")


@dataclass(frozen=True)
class ModelLength:
    """A resolved ``max_model_len``."""

    max_model_len: int
    """Tokens; with ``auto_fit`` what vLLM starts from before it fits the memory."""
    derived: float
    """Tokens the model's config allows."""
    derived_from: str | None
    """The config key."""
    auto_fit: bool = False
    note: str | None = None


def resolve_max_model_len(
    requested: int | None,
    text_config: Mapping[str, Any],
    *,
    disable_sliding_window: bool = False,
    tokenizer_max_length: int | None = None,
    encoder_max_seq_length: int | None = None,
    allow_long: bool = False,
    target_max_model_len: int | None = None,
    rules: PlanningRules = TODAY,
) -> ModelLength:
    """``--max-model-len`` against what the model allows; tokens.

    ``tokenizer_max_length`` counts for pooling models with absolute positions only, and
    ``encoder_max_seq_length`` is sentence-transformers' ``max_seq_length``.
    ``target_max_model_len`` is for draft models. ``allow_long`` is
    VLLM_ALLOW_LONG_MAX_MODEL_LEN. Raises InputError for a request above the model's length,
    ConfigError for a length in the config that makes no sense.
    """
    derived, key = derived_length(text_config)
    window = text_config.get("sliding_window")
    if disable_sliding_window and isinstance(window, int) and 0 < window < derived:
        derived, key = window, "sliding_window"
    if tokenizer_max_length is not None:
        derived = min(derived, tokenizer_max_length)
    note = None
    if derived == math.inf:
        if requested == -1:
            raise InputError(
                "--max-model-len: auto needs a model whose config names a maximum length; "
                "max_model_len must be a positive integer"
            )
        if requested is not None:
            return ModelLength(requested, derived, None)
        if target_max_model_len is not None:
            return ModelLength(target_max_model_len, derived, None)
        derived = DEFAULT_LENGTH
        note = f"the config names no maximum length; vLLM assumes {DEFAULT_LENGTH}"
    rope = list(rope_parameters(text_config))
    if not rules.yarn_is_stated_scaled:
        derived = _before_yarn(derived, rope)
    derived *= _rope_factor(rope, str(text_config.get("model_type", "")), rules)
    if encoder_max_seq_length is not None:
        derived = encoder_max_seq_length
    if derived < 1:
        raise ConfigError(f"config.json: {key} gives a length of {derived:g}; expected 1 or more")
    if requested is None or requested == -1:
        length, original = int(derived), text_config.get("original_max_position_embeddings")
        if original is not None and any(rope_type(each) == "longrope" for each in rope):
            length = int(_positive(original, "original_max_position_embeddings"))
        return ModelLength(length, derived, key, requested == -1, note)
    if requested > derived:
        note = _check_longer(requested, derived, key, text_config, allow_long) or note
    return ModelLength(requested, derived, key, False, note)


def derived_length(text_config: Mapping[str, Any]) -> tuple[float, str | None]:
    """Smallest of the config's length keys, and its name; (inf, None) where there is none."""
    best, best_key = math.inf, None
    for key in LENGTH_KEYS:
        value = text_config.get(key)
        if value is None:
            continue
        length = _positive(value, key)
        if length < best:
            best, best_key = length, key
    cohere = text_config.get("model_max_length")
    if cohere:  # Command-R: this key overrules the others
        return _positive(cohere, "model_max_length"), "model_max_length"
    return best, best_key


def rope_parameters(text_config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A config's RoPE settings, one mapping per layer type where they are nested.

    Takes ``rope_parameters`` (transformers 5) and the older ``rope_scaling``.
    """
    parameters = text_config.get("rope_parameters") or text_config.get("rope_scaling")
    if not isinstance(parameters, Mapping) or not parameters:
        return
    if all(value is None or isinstance(value, Mapping) for value in parameters.values()):
        yield from (value for value in parameters.values() if value)
    else:
        yield parameters


def rope_type(parameters: Mapping[str, Any]) -> str:
    """The modern name of a RoPE type: ``su`` is longrope, ``mrope`` default."""
    name = str(parameters.get("rope_type", parameters.get("type", "default")))
    return {"su": "longrope", "mrope": "default", "telechat3-yarn": "yarn"}.get(name, name)


def _before_yarn(derived: float, rope: list[Mapping[str, Any]]) -> float:
    """The length that YaRN stretches, where the version does not take the config's as stretched."""
    for parameters in rope:
        original = parameters.get("original_max_position_embeddings")
        if rope_type(parameters) == "yarn" and original is not None:
            derived = _positive(original, "original_max_position_embeddings")
    return derived


def _rope_factor(rope: list[Mapping[str, Any]], model_type: str, rules: PlanningRules) -> float:
    """What linear and dynamic scaling stretch the length by; before 0.30 YaRN, too."""
    if "gemma3" in model_type:  # its length is stated scaled
        return 1.0
    factor: float = 1.0
    for parameters in rope:
        stretches = rope_type(parameters) == "yarn" and not rules.yarn_is_stated_scaled
        if stretches or rope_type(parameters) not in _UNSCALED_ROPE:
            value = parameters.get("factor", factor)
            factor = 1.0 if value is None else _positive(value, "rope factor")
    return factor


def _check_longer(
    requested: int,
    derived: float,
    key: str | None,
    text_config: Mapping[str, Any],
    allow_long: bool,
) -> str | None:
    model_max_length = text_config.get("model_max_length")
    if isinstance(model_max_length, (int, float)) and requested <= model_max_length:
        return None
    message = (
        f"User-specified max_model_len ({requested}) is greater than the derived max_model_len "
        f"({key}={int(derived)} or model_max_length={model_max_length} in model's config.json)"
    )
    if allow_long:
        return f"{message}; VLLM_ALLOW_LONG_MAX_MODEL_LEN allows it"
    raise InputError(f"{message}. To allow it, set VLLM_ALLOW_LONG_MAX_MODEL_LEN=1")


def _positive(value: Any, name: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value <= 1 << 48  # also refuses NaN
    ):
        raise ConfigError(
            f"config.json: {name} is {shown(value)}; expected a positive number, "
            f"at most {1 << 48:,}"
        )
    return value


_SPELLINGS = {
    "half": "float16",
    "float16": "float16",
    "float": "float32",
    "float32": "float32",
    "bfloat16": "bfloat16",
}
_NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")


@dataclass(frozen=True)
class ModelDtype:
    """A resolved dtype: bfloat16, float16 or float32."""

    name: str
    note: str | None = None


def supported_dtypes(platform: str, compute_capability: tuple[int, int] | None) -> tuple[str, ...]:
    """Dtypes of a device, the preferred first. Unknown capability counts as new enough."""
    if platform != "cuda" or compute_capability is None or compute_capability >= (8, 0):
        return ("bfloat16", "float16", "float32")
    return ("float16", "float32") if compute_capability >= (6, 0) else ("float32",)


def checkpoint_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype config.json names: at the root, else in the text, vision or encoder part.

    None where it names none; vLLM then looks at the safetensors headers, and takes float32
    without them.
    """
    for part in (config, *(config.get(k) for k in _TEXT_PARTS), *(config.get(k) for k in _OTHER)):
        if not isinstance(part, Mapping):
            continue
        value = part.get("dtype") or part.get("torch_dtype")
        if isinstance(value, str):
            return value.removeprefix("torch.").lower()
    return None


_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
_OTHER = ("vision_config", "encoder_config")


def resolve_dtype(
    requested: str,
    *,
    checkpoint: str | None,
    model_type: str,
    is_pooling: bool = False,
    platform: str = "cuda",
    compute_capability: tuple[int, int] | None,
    gpu_name: str = "this GPU",
) -> ModelDtype:
    """The dtype of weights and activations.

    ``auto`` follows the checkpoint, except that float32 becomes the device's preferred dtype
    (float16 for pooling models) and a dtype the device or family lacks its next best.
    Raises InputError for a dtype that the model family or the device refuses.
    """
    config_dtype = checkpoint or "float32"
    asked = requested.lower()
    if asked == "auto":
        name, note = _auto(config_dtype, model_type, is_pooling, platform, compute_capability)
    elif asked in _SPELLINGS:
        name, note = _SPELLINGS[asked], None
    else:
        raise InputError(f"--dtype: Unknown dtype {requested[:40]!r}; valid: auto, bfloat16, half")
    if name == "float16" and model_type in _NO_FLOAT16:
        raise InputError(
            f"--dtype: the model type {model_type!r} does not support float16 (numerical "
            "instability); use bfloat16 or float32"
        )
    if name == "bfloat16" and name not in supported_dtypes(platform, compute_capability):
        major, minor = compute_capability or (0, 0)
        raise InputError(
            "--dtype: Bfloat16 is only supported on GPUs with compute capability of at least "
            f"8.0; {gpu_name} has {major}.{minor}. Use --dtype half"
        )
    return ModelDtype(name, note)


def _auto(
    config_dtype: str,
    model_type: str,
    is_pooling: bool,
    platform: str,
    compute_capability: tuple[int, int] | None,
) -> tuple[str, str | None]:
    supported = [
        dtype
        for dtype in supported_dtypes(platform, compute_capability)
        if not (dtype == "float16" and model_type in _NO_FLOAT16)
    ]
    preferred = "float16" if is_pooling and "float16" in supported else supported[0]
    wanted = preferred if config_dtype == "float32" else _SPELLINGS.get(config_dtype, config_dtype)
    if wanted in supported:
        return wanted, None
    return preferred, f"{wanted} is not supported here; vLLM falls back to {preferred}"
