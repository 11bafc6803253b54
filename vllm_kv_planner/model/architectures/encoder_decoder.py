"""Encoder-decoder models: a decoder layer keeps its own tokens and what the encoder made.

Source: vLLM 0.33 ``model_executor/models/whisper.py``, ``cohere_asr.py``, ``nemotron_parse.py``,
``nemotron_parse3_5.py``; ``layers/attention/cross_attention.py``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention
from .reader import ModelReader


def encoder_decoder(model: ModelReader) -> list[Attention]:
    """Self-attention, then cross-attention, in every decoder layer.

    Options: ``decoder``: where the decoder's config is, as keys from the whole; the whole itself by
    default. ``prefix_only``: no cross-attention, the encoder's output is a prefix of the prompt.
    """
    config = model.top if "decoder" in model.options else model.text
    for key in model.options.get("decoder", ()):
        config = config.sub(key)
    heads = config.int("decoder_attention_heads", "num_attention_heads")
    own = Attention(
        index=0,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=config.int("d_model", "hidden_size") // heads,
        use_mm_prefix=model.use_mm_prefix,
    )
    across = replace(own, attn_type="encoder_decoder", use_mm_prefix=False)
    kinds = (own,) if model.options.get("prefix_only") else (own, across)
    count = config.int("decoder_layers", "num_layers")
    return [replace(kind, index=index) for index in range(count) for kind in kinds]


def mllama(model: ModelReader) -> list[Attention]:
    """Llama 3.2 Vision: the listed layers look at the image, the others at the text.

    Source: vLLM 0.10.2 ``mllama.py``.
    """
    across = set(model.text.list_of_ints("cross_attention_layers", default=()))
    template = attention(model)
    return [
        replace(
            template, index=index, attn_type="encoder_decoder" if index in across else "decoder"
        )
        for index in range(model.num_hidden_layers)
    ]
