"""What a model's class answers where config.json says nothing.

Published configs omit what equals the default of their transformers class (gemma-3-4b-it omits
its head counts). ``defaults.jsonl`` holds those defaults, the size-relevant ones, for every
model type that holds a language model; ``tools/make_defaults.py`` wrote it from transformers'
classes and vLLM's own.

And how many tokens one image, video or audio may take, where a class states it. Only models whose
images attend in both directions (multimodal prefix-LMs) are listed: for them the largest item must
fit in one step, so it is a floor of ``max_num_batched_tokens``. Source: vLLM 0.33
``EngineArgs._get_min_mm_batched_tokens`` (vllm/engine/arg_utils.py),
``ModelConfig._supports_multimodal_inputs`` (vllm/config/model.py), and
``get_supported_mm_limits`` and ``get_mm_max_tokens_per_item`` of the models' processing info.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..files.json_file import find_line
from ..records import dataclass

_known: dict[str, Mapping[str, Any]] = {}


def defaults_for(model_type: str) -> Mapping[str, Any]:
    """The default of each key that ``model_type``'s class sets to a fixed value.

    Keys that the class derives from others (``num_key_value_heads`` from
    ``num_attention_heads`` in Llama) are absent, as only the config at hand can tell. A nested
    config appears as its ``model_type`` and whatever differs from that type's own defaults.
    An unknown model type has no defaults: ``{}``.
    """
    found: Mapping[str, Any] = class_line(model_type).get("defaults", {})
    return found


def class_line(model_type: str) -> Mapping[str, Any]:
    """All that is known of ``model_type``'s class; nothing of an unknown one.

    Beside ``defaults``: ``types``, names of fields by the JSON types they take; ``divides``, pairs
    of fields of which the first must be a multiple of the second; ``lengths``, of lists and the
    number of their items; ``layer_types``, whether the
    class minds what its list of layer types holds; ``parts``, by key the class
    that it makes nested configs of (null: the one of their ``model_type``), which leaves the other
    objects as they are; a null in its place: not known.
    """
    if model_type not in _known:
        line = None
        if model_type and len(model_type) < 100:
            line = find_line(__file__, "defaults.jsonl", model_type.lower())
        _known[model_type] = line or {}
    return _known[model_type]


JsonDict = Mapping[str, Any]
ItemTokens = Callable[[JsonDict, JsonDict, JsonDict], Mapping[str, int]]
"""Config, ``--limit-mm-per-prompt`` and ``--mm-processor-kwargs`` in; largest of each kind out."""

GEMMA4_SOFT_TOKENS = (70, 140, 280, 560, 1120)
GEMMA4_VIDEO_FRAMES = 32
GEMMA4_FRAME_TOKENS = 70 + 2 + 6  # soft tokens, begin and end of image, a time stamp
GEMMA4_AUDIO_TOKENS = 750
"""``audio_seq_length``'s default in transformers' processor; its file may say otherwise."""


@dataclass(frozen=True)
class Items:
    """What a model may be shown."""

    modalities: tuple[str, ...]
    """``audio`` counts where the config has an ``audio_config``."""
    largest: ItemTokens | None = None
    """None where the class leaves it to profiling."""


def _gemma4(length_key: str) -> ItemTokens:
    def largest(config: JsonDict, limits: JsonDict, processor: JsonDict) -> dict[str, int]:
        vision = config.get("vision_config")
        vision = vision if isinstance(vision, Mapping) else {}
        image = _int(vision.get(length_key), 280)
        nested = processor.get("images_kwargs")
        asked = processor.get("max_soft_tokens")
        if asked is None and isinstance(nested, Mapping):
            asked = nested.get("max_soft_tokens")
        if asked in GEMMA4_SOFT_TOKENS:
            image = _int(asked, image)
        video = limits.get("video")
        frames = video.get("num_frames") if isinstance(video, Mapping) else None
        shown = min(GEMMA4_VIDEO_FRAMES, _int(frames, GEMMA4_VIDEO_FRAMES))
        audio = GEMMA4_AUDIO_TOKENS if config.get("audio_config") is not None else 0
        return {"image": image, "audio": audio, "video": shown * GEMMA4_FRAME_TOKENS}

    return largest


def _bagel(config: JsonDict, limits: JsonDict, processor: JsonDict) -> dict[str, int]:
    return {"image": _int(config.get("vit_max_num_patch_per_side"), 70) ** 2}


def _moondream3(config: JsonDict, limits: JsonDict, processor: JsonDict) -> dict[str, int]:
    return {"image": 730}  # begin of sequence and a grid of 27 x 27


def _deepseek_v4(config: JsonDict, limits: JsonDict, processor: JsonDict) -> dict[str, int]:
    tokens = config.get("vision_max_n_token")
    return {} if tokens is None else {"image": _int(tokens, 0) + 3}  # to a multiple of 4


def _int(value: Any, default: int) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 32
    return value if plain else default


ITEMS: Mapping[str, Items] = {
    "BagelForConditionalGeneration": Items(("image",), _bagel),
    "DeepseekV4ForCausalLM": Items(("image",), _deepseek_v4),  # with a vision tower
    "DeepseekV4ForConditionalGeneration": Items(("image",), _deepseek_v4),
    "DiffusionGemmaForBlockDiffusion": Items(("image", "video"), _gemma4("default_output_length")),
    "Gemma3ForConditionalGeneration": Items(("image",)),
    "Gemma4ForConditionalGeneration": Items(
        ("image", "video", "audio"), _gemma4("default_output_length")
    ),
    "Gemma4UnifiedForConditionalGeneration": Items(
        ("image", "video", "audio"), _gemma4("num_soft_tokens")
    ),
    "Molmo2ForConditionalGeneration": Items(("image", "video")),
    "Moondream3ForCausalLM": Items(("image",), _moondream3),
    "PaliGemmaForConditionalGeneration": Items(("image",)),
}


def largest_item(
    architecture: str,
    config: JsonDict,
    limits: JsonDict,
    processor_kwargs: JsonDict | None = None,
    *,
    shown: bool = False,
) -> int | None:
    """Tokens of the largest single item; None where the model's class states none.

    ``shown`` leaves out the kinds that ``--limit-mm-per-prompt`` puts at 0.
    """
    items = ITEMS.get(architecture)
    if items is None or items.largest is None:
        return None
    tokens = items.largest(config, limits, processor_kwargs or {})
    return max(
        (n for kind, n in tokens.items() if not shown or _count(limits.get(kind)) != 0),
        default=None,
    )


def shows_nothing(config: JsonDict, limits: JsonDict) -> bool:
    """Whether ``--limit-mm-per-prompt`` puts every kind of item the model takes at 0."""
    listed = config.get("architectures")
    named = listed[0] if isinstance(listed, list) and listed else None
    items = ITEMS.get(named) if isinstance(named, str) else None
    return items is not None and all(
        _count(limits.get(modality)) == 0
        for modality in items.modalities
        if modality != "audio" or config.get("audio_config") is not None
    )


def _count(limit: Any) -> Any:
    """Items allowed by one limit: a number, or an object with ``count``; unset: many."""
    if isinstance(limit, Mapping):
        return limit.get("count", 999)
    return 999 if limit is None else limit
