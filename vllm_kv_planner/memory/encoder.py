"""The profile's first phase: the multimodal encoder at its token budget.

vLLM shows the encoder as many of the largest item as the budget holds: max(the scheduler's
encoder budget, one item) tokens. The encoder's outputs stay in the encoder cache until the whole
profile is over; Model Runner V1 also keeps the dummy items' pixels that long.

Source: vLLM 0.19 and 0.33 ``profile_run`` and ``_get_mm_dummy_batch`` of
``v1/worker/gpu_model_runner.py``, ``v1/worker/gpu/mm/encoder_runner.py``
``profile_encoder_cache``, ``multimodal/encoder_budget.py``,
``v1/core/encoder_cache_manager.py`` ``compute_mm_encoder_budget``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..records import dataclass, replace
from .encoder_items import EncoderItem, largest_encoder_item
from .phase import Parts, Phase, parts, round_up
from .rank import Rank

_QWEN3_VL = ("qwen3_vl", "qwen3_vl_moe")
_QWEN3_VIDEO_PIXELS = 25_165_824
_RULED, _GUESSED = 0.25, 0.5
"""How far off the encoder's own peak may be, as a share of it."""


@dataclass(frozen=True)
class EncoderProfile:
    """What the encoder's profile allocates on one rank.

    Attributes:
        held: What lives on until the sampler is done.
        uncertainty_bytes: How far off ``held`` may be.
        how: Where the item's size comes from.
    """

    phase: Phase
    held: Parts
    uncertainty_bytes: int
    how: str


def encoder_profile(rank: Rank) -> EncoderProfile | None:
    """The encoder's share of the profile; None without an encoder on this rank."""
    setup = rank.setup
    args = setup.args
    if not setup.model.is_multimodal or not rank.is_first:
        return None
    if args.skip_mm_profiling or args.language_model_only:
        return None
    item = largest_encoder_item(setup)
    if item is None or item.tokens <= 0:
        return None
    if rank.rules.pads_videos and setup.model.config.get("model_type") in _QWEN3_VL:
        item = _padded_video(item) if args.limit_mm_per_prompt.get("video") != 0 else item
    budget = max(setup.resolved.batch.max_num_encoder_input_tokens, item.tokens)
    count = _items(rank, item, budget)
    outputs = count * item.embeddings * rank.hidden * item.output_copies * rank.element
    pixels = count * item.pixel_elements * rank.element
    held = parts(encoder_outputs=outputs, dummy_items=0 if rank.uses_v2 else pixels)
    layer = item.layer_elements(count, rank.tp) * rank.element
    mask = _mask(rank, count * item.patches) if item.masks else ()
    phase = Phase(
        "encoder",
        (*parts(dummy_items=pixels, encoder_layer=layer, encoder_outputs=outputs), *mask),
        uncertainty_bytes=int((outputs + pixels + layer) * (_GUESSED if item.is_guess else _RULED)),
    )
    unsure = (outputs + pixels) // (2 if item.is_guess else 20)
    return EncoderProfile(phase, held, unsure, item.how)


def _mask(rank: Rank, patches: int) -> Parts:
    """Pixtral's mask of every patch against every one, which keeps images apart.

    PyTorch's attention copies it where its rows are not whole multiples of 8. Source: vLLM 0.19 to
    0.28 ``models/pixtral.py`` (``generate_block_attention_mask`` of transformers; before 0.12
    xformers was there); PyTorch ``aten/src/ATen/native/transformers/attention.cpp`` ``pad_bias``.
    """
    if not rank.rules.masks_images:
        return ()
    padded = patches % 8 and patches * round_up(patches, 8)
    return parts(mask=patches * patches * rank.element, padded_mask=padded * rank.element)


def _padded_video(image: EncoderItem) -> EncoderItem:
    """Qwen3-VL's largest video, of 12.5 tokens for each that it has; its output is padded to them.

    Source: vLLM 0.11.0 ``models/qwen3_vl.py`` ``get_max_video_tokens``, ``profile_run``.
    """
    rows = _QWEN3_VIDEO_PIXELS // (2 * 32 * 32)
    return replace(
        image,
        tokens=rows * 25 // 2,
        embeddings=rows * 25 // 2,
        pixel_elements=image.pixel_elements * rows // image.tokens,
        patches=image.patches * rows // image.tokens,
        how="one video of the processor's largest size, counted 12.5 times by vLLM 0.11.0",
    )


def _items(rank: Rank, item: EncoderItem, budget: int) -> int:
    """Items profiled at once: by the encoder's budget and by what the decoder could be sent.

    Source: ``MultiModalBudget._get_max_items``.
    """
    setup = rank.setup
    by_encoder = budget // item.tokens
    limit = setup.args.limit_mm_per_prompt.get("image")
    if isinstance(limit, Mapping):
        limit = limit.get("count")
    by_length = setup.resolved.length.max_model_len // item.tokens
    per_prompt = max(1, min(limit, by_length) if isinstance(limit, int) else by_length)
    return max(1, min(by_encoder, setup.resolved.batch.max_num_seqs * per_prompt))
