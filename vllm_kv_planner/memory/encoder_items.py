"""The largest image or video a model may be shown, and what its encoder makes of it.

Restates ``get_image_size_with_most_features`` and ``get_mm_max_tokens_per_item`` of the models'
processing info (vLLM 0.19 and 0.33 ``models/gemma3_mm.py``, ``mistral3.py``, ``pixtral.py``,
``mllama4.py``, ``llava.py``, ``llava_next.py``, ``qwen2_vl.py``, ``qwen3_vl.py``,
``internvl.py``, ``gemma4_mm.py``, ``gemma4_unified.py``) with the image processors' defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..engine_args.setup import EngineSetup
from ..errors import ConfigError
from ..files.json_file import shown
from ..records import dataclass, replace

JsonDict = Mapping[str, Any]
_GEMMA4_FRAMES = 32
_LARGEST = "one image of the processor's largest size"
_LARGEST_SIDE = 100_000
_QWEN2_FRAMES = 14
_QWEN2_VL = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni")


@dataclass(frozen=True, kw_only=True)
class EncoderItem:
    """One item of the largest size.

    Attributes:
        tokens: Of the budget, placeholders and line breaks included.
        embeddings: Rows of the encoder's output.
        pixel_elements: Numbers the processor hands the encoder.
        patches: Rows inside the encoder.
        output_copies: Widths of the decoder in an output row (deepstack layers add some).
        patches_at_once: Rows that go through the encoder together, where it takes them in chunks.
        masks: Items are told apart by a mask, where ``VersionRules.masks_images`` says so.
        is_guess: No rule for this model.
    """

    tokens: int
    embeddings: int
    pixel_elements: int
    patches: int
    width: int
    mlp_width: int
    gated: bool = False
    output_copies: int = 1
    patches_at_once: int | None = None
    masks: bool = False
    is_guess: bool = False
    how: str = ""

    def layer_elements(self, count: int, tp: int) -> int:
        """Numbers alive in one encoder layer at its worst, for ``count`` items together.

        Attention: residual, normed, queries, keys and values, their rotated copies, output.
        MLP: residual, normed, up projection and its activation.
        """
        attention = 2 * self.width + 6 * self.width // tp
        mlp = 2 * self.width + (3 if self.gated else 2) * self.mlp_width // tp
        patches = count * self.patches
        if self.patches_at_once is not None:
            patches = min(patches, self.patches_at_once)
        return patches * max(attention, mlp)


def largest_encoder_item(setup: EngineSetup) -> EncoderItem | None:
    """The item vLLM profiles with; None for models without an encoder of their own."""
    config = setup.model.config
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        thinker = config.get("thinker_config")
        vision = thinker.get("vision_config") if isinstance(thinker, Mapping) else None
    limits = setup.args.limit_mm_per_prompt
    if _count(limits.get("image")) == 0 and _count(limits.get("video", 0)) == 0:
        return None
    rule = _RULES.get(str(config.get("model_type")))
    if rule is not None and isinstance(vision, Mapping):
        item = rule(config, vision)
        if config.get("model_type") in _QWEN2_VL and _count(limits.get("video")) != 0:
            return _video(item, setup.resolved.length.max_model_len)
        if config.get("model_type") == "gemma4":
            # frames encoded together (``_encoder_chunk``, from 0.22 on; before, one by one)
            frame = item.patches // _GEMMA4_FRAMES
            cost = frame * 4 * _int(vision, "position_embedding_size", 10240) * 8
            chunk = max(1, setup.gpu.total_memory_bytes // 10 // cost)
            return replace(item, patches_at_once=frame * chunk)
        return item
    return _unknown(setup, vision if isinstance(vision, Mapping) else {})


def _gemma3(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side = _int(vision, "image_size", 896)
    tokens = _int(config, "mm_tokens_per_image", 256)
    return _item(vision, side, tokens, tokens, how="one 896 x 896 image")


def _mistral3(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side, patch = _int(vision, "image_size", 1540), _int(vision, "patch_size", 14)
    merged = side // patch // _int(config, "spatial_merge_size", 1)
    # a line break or the end after every row of patches
    item = _item(vision, side, merged * (merged + 1), merged * merged, gated=True)
    return replace(item, masks=True)


def _llama4(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side, patch = _int(vision, "image_size", 336), _int(vision, "patch_size", 14)
    ratio = vision.get("pixel_shuffle_ratio", 0.5)
    tiles = 16 + 1  # max_patches of the image processor, and the whole image once more
    per_tile = int((side // patch) ** 2 * float(ratio) ** 2)
    tokens = tiles * per_tile
    return _item(vision, side, tokens + tiles + 3, tokens, tiles=tiles)


def _llava(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side, patch = _int(vision, "image_size", 336), _int(vision, "patch_size", 14)
    tokens = (side // patch) ** 2
    return _item(vision, side, tokens, tokens)


def _llava_next(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side, patch = _int(vision, "image_size", 336), _int(vision, "patch_size", 14)
    grid = side // patch
    best, tiles = grid * grid, 1
    for height, width in _pinpoints(config):
        rows, columns = height // side, width // side
        # every tile's features, a line break a row, and the whole image once more
        tokens = rows * grid * (columns * grid + 1) + grid * grid
        if tokens > best:
            best, tiles = tokens, rows * columns + 1
    return _item(vision, side, best, best, tiles=tiles)


def _pinpoints(config: JsonDict) -> Iterator[tuple[int, int]]:
    """Heights and widths in pixels that images are fitted to.

    Raises:
        ConfigError: Something else stands there.
    """
    listed = config.get("image_grid_pinpoints") or []
    for pair in listed if isinstance(listed, list) else [listed]:
        lengths: list[Any] = pair if isinstance(pair, list) and len(pair) == 2 else [None]
        if not all(type(length) is int and 0 < length <= _LARGEST_SIDE for length in lengths):
            raise ConfigError(
                "config.json: image_grid_pinpoints must be a list of [height, width] pairs of "
                f"whole numbers from 1 to {_LARGEST_SIDE:,}, holds {shown(pair)}"
            )
        yield lengths[0], lengths[1]


def _qwen_vl(config: JsonDict, vision: JsonDict) -> EncoderItem:
    """16,384 tokens: the processors' largest image, 12.8 or 16.8 million pixels."""
    merge = _int(vision, "spatial_merge_size", 2)
    tokens = 16384
    patches = tokens * merge * merge
    patch = _int(vision, "patch_size", 14)
    width = _int(vision, "hidden_size", _int(vision, "embed_dim", 1280))
    deepstack = vision.get("deepstack_visual_indexes")
    return EncoderItem(
        tokens=tokens,
        embeddings=tokens,
        pixel_elements=patches * 3 * _int(vision, "temporal_patch_size", 2) * patch * patch,
        patches=patches,
        width=width,
        mlp_width=_int(vision, "intermediate_size", 4 * width),
        gated=config.get("model_type") == "qwen2_5_vl",
        output_copies=1 + (len(deepstack) if isinstance(deepstack, list) else 0),
        how=_LARGEST,
    )


def _video(image: EncoderItem, max_model_len: int) -> EncoderItem:
    """Qwen2-VL's largest video: up to 14 frames of the largest size, two of them a grid.

    As many as the context holds, but one grid at least.
    """
    grids = max(1, min(_QWEN2_FRAMES // 2, max_model_len // image.tokens))
    return replace(
        image,
        tokens=image.tokens * grids,
        embeddings=image.embeddings * grids,
        pixel_elements=image.pixel_elements * grids,
        patches=image.patches * grids,
        how=f"one video of {2 * grids} frames of the processor's largest size",
    )


def _internvl(config: JsonDict, vision: JsonDict) -> EncoderItem:
    side, patch = _int(vision, "image_size", 448), _int(vision, "patch_size", 14)
    tiles = _int(config, "max_dynamic_patch", 12) + 1
    tokens = tiles * ((side // patch) // 2) ** 2
    return _item(vision, side, tokens, tokens, tiles=tiles)


def _gemma4(config: JsonDict, vision: JsonDict) -> EncoderItem:
    """A video of 32 frames with 70 tokens each, 3 x 3 patches of 16 x 16 pixels a token."""
    frames, soft = _GEMMA4_FRAMES, 70
    pooled = _int(vision, "pooling_kernel_size", 3) ** 2
    patch = _int(vision, "patch_size", 16)
    width = _int(vision, "hidden_size", 768)
    patches = frames * soft * pooled
    return EncoderItem(
        tokens=frames * (soft + 8),
        embeddings=frames * soft,
        pixel_elements=patches * 3 * patch * patch,
        patches=patches,
        width=width,
        mlp_width=_int(vision, "intermediate_size", 4 * width),
        gated=True,
        how="one video of 32 frames",
    )


def _gemma4_unified(config: JsonDict, vision: JsonDict) -> EncoderItem:
    """The same video; no encoder: a patch of 48 x 48 pixels becomes a token."""
    frames, soft = _GEMMA4_FRAMES, 70
    width = _int(vision, "mm_embed_dim", 3840)
    patch = 3 * _int(vision, "model_patch_size", 48) ** 2
    return EncoderItem(
        tokens=frames * (soft + 8),
        embeddings=frames * soft,
        pixel_elements=frames * soft * patch,
        patches=frames * soft,
        width=width,
        mlp_width=patch // 2,  # its two norms of the pixels
        how="one video of 32 frames",
    )


def _unknown(setup: EngineSetup, vision: JsonDict) -> EncoderItem:
    """No rule: an item as large as the budget, four patches a token."""
    tokens = setup.resolved.batch.max_num_encoder_input_tokens
    width = _int(vision, "hidden_size", 1024)
    return EncoderItem(
        tokens=tokens,
        embeddings=tokens,
        pixel_elements=tokens * 4 * 3 * 14 * 14,
        patches=tokens * 4,
        width=width,
        mlp_width=_int(vision, "intermediate_size", 4 * width),
        is_guess=True,
        how="no rule for this model's largest item: taken to fill the encoder's budget",
    )


def _item(
    vision: JsonDict,
    side: int,
    tokens: int,
    embeddings: int,
    *,
    tiles: int = 1,
    gated: bool = False,
    how: str = _LARGEST,
) -> EncoderItem:
    """Square tiles cut into square patches."""
    width = _int(vision, "hidden_size", 1024)
    return EncoderItem(
        tokens=tokens,
        embeddings=embeddings,
        pixel_elements=tiles * 3 * side * side,
        patches=tiles * (side // _int(vision, "patch_size", 14)) ** 2,
        width=width,
        mlp_width=_int(vision, "intermediate_size", 4 * width),
        gated=gated,
        how=how,
    )


def _int(config: JsonDict, name: str, default: int) -> int:
    value = config.get(name)
    plain = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
    return int(value) if plain and value is not None else default


def _count(limit: Any) -> Any:
    return limit.get("count") if isinstance(limit, Mapping) else limit


_QWEN_VL = (
    *_QWEN2_VL,
    *("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen3_omni_moe"),
)
_RULES: Mapping[str, Callable[[JsonDict, JsonDict], EncoderItem]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "gemma4_unified": _gemma4_unified,
    "internvl": _internvl,
    "internvl_chat": _internvl,
    "llama4": _llama4,
    "llava": _llava,
    "llava_next": _llava_next,
    "mistral3": _mistral3,
    **dict.fromkeys(_QWEN_VL, _qwen_vl),
}
