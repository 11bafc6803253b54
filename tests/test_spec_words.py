"""What a cache layer says of itself in a report, and what it counts to the token."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vllm_kv_planner.kv_cache.spec import next_power_of_two
from vllm_kv_planner.kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    CircularBufferSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    RequestLimits,
    SlidingWindowMLASpec,
    SlidingWindowSpec,
)

HEADS = {"block_size": 16, "num_kv_heads": 8, "head_size": 128, "dtype_bytes": 2}
LATENT = {"block_size": 64, "head_size": 576, "dtype_bytes": 2}
LIMITS = RequestLimits(
    max_model_len=4096, max_in_flight_tokens=512, max_num_encoder_input_tokens=1500
)


@pytest.mark.parametrize(
    ("spec", "words", "kept"),
    [
        # bytes that a sequence of 1,000 tokens keeps: 8 heads x (128 + 128) x 2 = 4,096 a token
        (
            FullAttentionSpec(**HEADS, head_size_v=128),
            "full attention: 8 KV heads of 128",
            4_096_000,
        ),
        (
            FullAttentionSpec(**HEADS, head_size_v=64),
            "full attention: 8 KV heads of 128 (keys) and 64 (values)",
            3_072_000,
        ),
        (
            SlidingWindowSpec(**HEADS, head_size_v=128, sliding_window=512),
            "sliding window 512: 8 KV heads of 128",
            512 * 4096,
        ),
        (
            SlidingWindowSpec(**HEADS, head_size_v=128, sliding_window=2048),
            "sliding window 2,048: 8 KV heads of 128",
            4_096_000,
        ),
        (
            ChunkedLocalAttentionSpec(**HEADS, head_size_v=128, attention_chunk_size=8192),
            "chunks of 8,192: 8 KV heads of 128",
            4_096_000,
        ),
        (
            CrossAttentionSpec(**HEADS, head_size_v=128),
            "cross attention: 8 KV heads of 128",
            1500 * 4096,
        ),
        # DeepSeek-V3's: 512 and 64 in bfloat16
        (MLAAttentionSpec(**LATENT), "MLA latent of 1,152 bytes a token", 1_152_000),
        (
            MLAAttentionSpec(block_size=64, head_size=132, dtype_bytes=1, cache_role="indexer"),
            "indexer key of 132 bytes a token",
            132_000,
        ),
        (
            SlidingWindowMLASpec(**LATENT, sliding_window=128),
            "sliding window 128: MLA latent of 1,152 bytes a token",
            128 * 1152,
        ),
        (
            MambaSpec(block_size=4096, state_bytes=1_100_000),
            "state of 1,100,000 bytes (Mamba, linear attention), whatever the length",
            1_100_000,
        ),
        (
            CircularBufferSpec(block_size=8, head_size=128, dtype_bytes=2),
            "circular buffer: 1 KV heads of 128 (keys) and 0 (values)",
            8 * 256,
        ),
    ],
)
def test_words_and_bytes(spec: KVCacheSpec, words: str, kept: int) -> None:
    assert spec.summary == words
    assert spec.bytes_kept(1000, LIMITS) == kept


def test_whisper_stores_four_states_a_token() -> None:
    spec = FullAttentionSpec(**HEADS, head_size_v=128, tokens_per_state=Fraction(1, 4))
    assert spec.num_states == 64 and spec.page_size_bytes == 64 * 4096


def test_what_grows_and_what_prefix_caching_keeps() -> None:
    """Only full attention grows; only rings are not cached (vLLM's ``prefix_cacheable``)."""
    kinds = (
        *(FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec, SlidingWindowMLASpec),
        *(ChunkedLocalAttentionSpec, CrossAttentionSpec, CircularBufferSpec, MambaSpec),
    )
    assert [each for each in kinds if each.grows_with_context] == [*kinds[:2]]
    assert [each for each in kinds if not each.prefix_cacheable] == [CircularBufferSpec]


def test_powers_of_two() -> None:
    assert list(map(next_power_of_two, (1, 2, 3, 4, 5, 1024, 1025))) == [1, 2, 4, 4, 8, 1024, 2048]
