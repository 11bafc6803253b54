"""The largest image or video of a model, against figures that its makers or vLLM publish."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.memory_engines import llama_config, peak_of, phase, setup_of
from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.memory.encoder_items import EncoderItem, largest_encoder_item


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def item_of(model: str | dict[str, Any], **flags: Any) -> EncoderItem | None:
    return largest_encoder_item(setup_of(model, tensor_parallel_size=2, **flags))


def beside_llama(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "text_config": llama_config(),
        **more,
    }


VISION = {"hidden_size": 1024, "num_attention_heads": 16}
LLAVA = beside_llama("LlavaForConditionalGeneration", "llava", vision_config=VISION)
INTERNVL = beside_llama(
    "InternVLForConditionalGeneration",
    "internvl",
    vision_config={**VISION, "patch_size": 14, "image_size": 448},
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # Gemma 3's report: 896 x 896 pixels in patches of 14, pooled to 256 tokens
        (
            "google/gemma-3-12b-it",
            {"tokens": 256, "embeddings": 256, "patches": 64**2, "pixel_elements": 3 * 896**2},
        ),
        # 32 frames, each 70 tokens and 8 around it, of 3 x 3 patches of 16 x 16 pixels
        (
            "google/gemma-4-26B-A4B",
            {
                "tokens": 2496,
                "embeddings": 2240,
                "patches": 2240 * 9,
                "pixel_elements": 2240 * 9 * 3 * 16**2,
                "gated": True,
            },
        ),
        # the same video without an encoder: a patch of 48 x 48 pixels is a token
        (
            "google/gemma-4-12B-it",
            {
                "tokens": 2496,
                "embeddings": 2240,
                "patches": 2240,
                "pixel_elements": 2240 * 3 * 48**2,
                "width": 3840,
                "mlp_width": 3 * 48**2 // 2,
            },
        ),
        # transformers' documentation of LLaVA-NeXT: 2,928 tokens at most; 2 x 2 tiles and one
        (
            "llava-hf/llava-v1.6-mistral-7b-hf",
            {
                "tokens": 2928,
                "embeddings": 2928,
                "patches": 5 * 576,
                "pixel_elements": 5 * 3 * 336**2,
            },
        ),
        # Llama 4: 16 tiles and the whole image, each 336 x 336 pixels and 144 tokens
        (
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
            {
                "tokens": 17 * 144 + 17 + 3,
                "embeddings": 17 * 144,
                "patches": 17 * 576,
                "pixel_elements": 17 * 3 * 336**2,
            },
        ),
        # Pixtral's encoder at 1,540 pixels: 55 rows of 55 merged patches, each with a break
        (
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            {
                "tokens": 55 * 56,
                "embeddings": 55 * 55,
                "patches": 110**2,
                "pixel_elements": 3 * 1540**2,
                "masks": True,
            },
        ),
        # logs of Qwen3.5 and Qwen3-VL: "1 image, budget 16384 tokens"; patches of 16, two frames
        (
            "Qwen/Qwen3-VL-32B-Instruct",
            {
                "tokens": 16384,
                "embeddings": 16384,
                "patches": 65536,
                "pixel_elements": 65536 * 3 * 2 * 16**2,
                "output_copies": 4,  # three deepstack layers
                "gated": False,
            },
        ),
        # LLaVA-1.5: 576 tokens
        (LLAVA, {"tokens": 576, "embeddings": 576, "patches": 576, "mlp_width": 4096}),
        # InternVL 2: 12 tiles and a thumbnail, 256 tokens each
        (
            INTERNVL,
            {
                "tokens": 3328,
                "embeddings": 3328,
                "patches": 13 * 1024,
                "pixel_elements": 13 * 3 * 448**2,
            },
        ),
    ],
)
def test_the_largest_item(model: str | dict[str, Any], expected: dict[str, Any]) -> None:
    found = item_of(model)
    assert found is not None and not found.is_guess
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(("length", "grids"), [(16384, 1), (49151, 2), (128_000, 7)])
def test_qwen_2_vl_s_video_fits_the_context(length: int, grids: int) -> None:
    """Two frames a grid, 14 at most."""
    found = item_of("Qwen/Qwen2.5-VL-7B-Instruct", max_model_len=length)
    image = item_of(
        "Qwen/Qwen2.5-VL-7B-Instruct", max_model_len=length, limit_mm_per_prompt={"video": 0}
    )
    assert found is not None and image is not None and image.tokens == 16384
    for name in ("tokens", "embeddings", "pixel_elements", "patches"):
        assert getattr(found, name) == grids * getattr(image, name)
    assert f"{2 * grids} frames" in found.how


def test_gemma_4_s_frames_go_through_in_chunks_of_a_tenth_of_the_gpu() -> None:
    """630 patches a frame; 4 tables of 10,240 places, 8 bytes each, a patch."""
    found = item_of("google/gemma-4-26B-A4B", gpu="H100")
    assert found is not None and found.patches_at_once is not None
    frames, rest = divmod(found.patches_at_once, 630)
    total = setup_of("google/gemma-4-26B-A4B").gpu.total_memory_bytes
    assert rest == 0 and frames * 630 * 4 * 10_240 * 8 <= total / 10
    assert (frames + 1) * 630 * 4 * 10_240 * 8 > total / 10


def test_a_model_without_a_rule_fills_the_budget() -> None:
    found = item_of("meta-llama/Llama-3.2-11B-Vision-Instruct", max_num_batched_tokens=4096)
    assert found is not None and found.is_guess
    assert (found.tokens, found.embeddings, found.patches) == (4096, 4096, 4 * 4096)
    assert found.pixel_elements == 4 * 4096 * 3 * 14 * 14
    assert (found.width, found.mlp_width) == (1280, 5120)  # of its vision_config


@pytest.mark.parametrize("limit", [0, {"count": 0}])
def test_no_item_where_none_may_be_sent(limit: Any) -> None:
    model = "google/gemma-3-12b-it"
    assert item_of(model, limit_mm_per_prompt={"image": limit}) is None
    assert item_of(model, limit_mm_per_prompt={"image": limit, "video": limit}) is None
    assert item_of(model, limit_mm_per_prompt={"image": limit, "video": 1}) is not None


@pytest.mark.parametrize("pair", [[336], [336, 0], [336, "672"], [336, 100_001], 336])
def test_a_grid_that_is_none(pair: Any) -> None:
    vision = {**VISION, "image_size": 336, "patch_size": 14}
    config = beside_llama(
        "LlavaNextForConditionalGeneration",
        "llava_next",
        vision_config=vision,
        image_grid_pinpoints=[pair],
    )
    with pytest.raises(ConfigError, match="image_grid_pinpoints"):
        item_of(config)


def test_one_layer_of_the_encoder_by_hand() -> None:
    """Residual and normed whole; TP divides heads and the MLP: 6 of attention, 2 or 3 of MLP."""
    plain = EncoderItem(
        tokens=1, embeddings=1, pixel_elements=1, patches=100, width=1000, mlp_width=4000
    )
    assert plain.layer_elements(3, 1) == 300 * (2000 + 8000)
    assert plain.layer_elements(3, 4) == 300 * (2000 + 2000)
    gated = EncoderItem(
        tokens=1,
        embeddings=1,
        pixel_elements=1,
        patches=100,
        width=1000,
        mlp_width=1200,
        gated=True,
        patches_at_once=150,
    )
    assert gated.layer_elements(1, 2) == 100 * (2000 + 3000)  # attention is the wider one
    assert gated.layer_elements(3, 2) == 150 * (2000 + 3000)


def test_gemma_3_s_encoder_phase_by_hand() -> None:
    """32 images of 256 tokens fill the budget of 8,192."""
    parts = phase(peak_of(setup_of("google/gemma-3-4b-it")), "encoder")
    assert parts["encoder_layer"] == 32 * 4096 * (2 * 1152 + 2 * 4304) * 2
    assert parts["dummy_items"] == 32 * 3 * 896 * 896 * 2
    few = phase(peak_of(setup_of("google/gemma-3-4b-it", max_num_seqs=1)), "encoder")
    assert few["dummy_items"] == parts["dummy_items"]  # 8,192 tokens of a prompt hold as many
    one = setup_of(
        "google/gemma-3-4b-it", max_num_seqs=3, limit_mm_per_prompt={"image": {"count": 2}}
    )
    assert phase(peak_of(one), "encoder")["dummy_items"] == 3 * 2 * 3 * 896 * 896 * 2


def test_models_that_also_speak_keep_their_encoder_inside_the_thinker() -> None:
    """Qwen3-Omni: the thinker sees; 27 layers of 1,152 with three deepstack ones."""
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16}
    config = {
        "model_type": "qwen3_omni_moe",
        "thinker_config": {"vision_config": {**vision, "deepstack_visual_indexes": [8, 16, 24]}},
    }
    seen: Any = SimpleNamespace(
        model=SimpleNamespace(config=config), args=SimpleNamespace(limit_mm_per_prompt={})
    )
    found = largest_encoder_item(seen)
    assert found is not None
    assert (found.width, found.mlp_width, found.output_copies) == (1152, 4304, 4)
    assert found.pixel_elements == 65536 * 3 * 2 * 16 * 16
