"""Vision towers like those of CLIP and SigLIP, of Gemma 3, LLaVA, Phi-3.5, Mistral 3 and others.

Each function lists the modules beside the language model, none of them where
``--limit-mm-per-prompt`` or ``--language-model-only`` leaves the tower out.

Source: vLLM 0.33 ``models/siglip.py``, ``models/clip.py``, ``models/gemma3_mm.py``,
``models/llava.py``, ``models/phi3v.py``, ``models/pixtral.py`` ``PixtralHFVisionModel``,
``models/mistral3.py``, ``models/mllama4.py``, ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.config import Config
from ..modules import (
    Block,
    Linear,
    Module,
    Norm,
    Rotary,
    TokenEmbedding,
    Weight,
    attention_pair,
    mlp_pair,
)
from .facts import Facts, WeightTree, part

_IMAGE = ("image",)
_PAIR = ("linear_1", "linear_2")


def encoder_layer(hidden: int, heads: int, inner: int) -> tuple[Module, ...]:
    """``SiglipEncoderLayer``, ``CLIPEncoderLayer``."""
    return (
        Block("self_attn", attention_pair("qkv_proj", "out_proj", hidden, heads, bias=True)),
        Block("mlp", mlp_pair("fc1", "fc2", hidden, inner, bias=True)),
        Norm("layer_norm1", hidden, True, part="vision"),
        Norm("layer_norm2", hidden, True, part="vision"),
    )


def transformer(config: Config, *, is_clip: bool, num_layers: int | None = None) -> Block:
    """``SiglipVisionTransformer`` or ``CLIPVisionTransformer``.

    ``is_clip``: CLIP has a class token and a norm before the layers, SigLIP one after them.
    """
    hidden, patch = config.int("hidden_size"), config.int("patch_size")
    heads, inner = config.int("num_attention_heads"), config.int("intermediate_size")
    count = config.int("num_hidden_layers") if num_layers is None else num_layers
    positions = (config.int("image_size") // patch) ** 2 + int(is_clip)
    channels = config.int("num_channels", default=3)
    embeddings: list[Module] = [
        Weight("patch_embedding.weight", (hidden, channels, patch, patch)),
        Weight("position_embedding.weight", (positions, hidden)),
        Weight("position_ids", (1, positions), dtype="int64"),
    ]
    if is_clip:
        embeddings.append(Weight("class_embedding", (hidden,)))
    else:
        embeddings.append(Weight("patch_embedding.bias", (hidden,)))
    layer = encoder_layer(hidden, heads, inner)
    children: list[Module] = [
        Block("embeddings", tuple(embeddings)),
        *(Block(f"encoder.layers.{index}", layer) for index in range(count)),
    ]
    if is_clip:
        children.append(Norm("pre_layrnorm", hidden, True, part="vision"))
    if count == config.int("num_hidden_layers"):
        children.append(Norm("post_layernorm", hidden, True, part="vision"))
    return Block("vision_model", tuple(children))


def gemma3(facts: Facts) -> Sequence[Module]:
    """SigLIP and a projection with a norm."""
    config = part(facts, "vision_config", "siglip_vision_model")
    if config is None or not facts.builds_tower(*_IMAGE):
        return ()
    hidden = config.int("hidden_size")
    projector: tuple[Module, ...] = (
        Weight("mm_input_projection_weight", (hidden, facts.hidden)),
        Norm("mm_soft_emb_norm", hidden, part="vision"),
    )
    return (
        Block("vision_tower", (transformer(config, is_clip=False),), "vision", is_tower=True),
        Block("multi_modal_projector", projector, "vision"),
    )


def llava(facts: Facts) -> Sequence[Module]:
    """CLIP up to the layer that is read, and a projection of two layers."""
    config = part(facts, "vision_config", "clip_vision_model")
    if config is None or not facts.builds_tower(*_IMAGE):
        return ()
    hidden = config.int("hidden_size")
    chosen = facts.top.get("vision_feature_layer")
    count = _layers_read(config.int("num_hidden_layers"), chosen if chosen is not None else -2)
    bias = facts.top.get("multimodal_projector_bias") is not False
    projector = mlp_pair(*_PAIR, hidden, facts.hidden, out=facts.hidden, bias=bias)
    tower = transformer(config, is_clip=True, num_layers=count)
    return (
        Block("vision_tower", (tower,), "vision", is_tower=True),
        Block("multi_modal_projector", projector, "vision"),
    )


def llava_next(facts: Facts) -> WeightTree:
    """LLaVA 1.5's parts and a separator of rows, which every stage makes."""
    found = llava(facts)
    newline = (Weight("image_newline", (facts.hidden,)),) if found else ()
    return WeightTree(embedding=(), layers=(), first=tuple(found), everywhere=newline)


def phi3v(facts: Facts) -> Sequence[Module]:
    """CLIP-L of 336 pixels, two separators, two projections; embeddings a second time."""
    outside = TokenEmbedding("embed_tokens", facts.vocab_size, facts.hidden)
    if not facts.builds_tower(*_IMAGE):
        return (outside,)
    config = Config(
        {
            **{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
            **{"num_hidden_layers": 24, "image_size": 336, "patch_size": 14},
        },
        facts.top.where,
    )
    wide, hidden = 4 * config.int("hidden_size"), facts.hidden
    tower = transformer(config, is_clip=True, num_layers=23)
    children: tuple[Module, ...] = (
        Block("img_processor", (tower,), is_tower=True),
        Weight("glb_GN", (1, 1, wide)),
        Weight("sub_GN", (1, 1, 1, wide)),
        Weight("img_projection.0.weight", (hidden, wide)),
        Weight("img_projection.0.bias", (hidden,)),
        Weight("img_projection.2.weight", (hidden, hidden)),
        Weight("img_projection.2.bias", (hidden,)),
    )
    return (outside, Block("vision_embed_tokens", children, "vision"))


def _layers_read(count: int, chosen: object) -> int:
    """Layers up to the last that is read (``get_num_selected_vision_layers``)."""
    several = chosen if isinstance(chosen, list) else [chosen]
    depths = [
        count + index + 1 if index < 0 else index for index in several if isinstance(index, int)
    ]
    return max(depths, default=count)


def mistral3(facts: Facts) -> Sequence[Module]:
    """Encoder, patch merger, projector."""
    config = part(facts, "vision_config", "pixtral")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    size = config.int("head_dim", default=hidden // heads)
    layer: tuple[Module, ...] = (
        Block("attention", attention_pair("qkv_proj", "o_proj", hidden, heads, size=size)),
        Block("feed_forward", mlp_pair("gate_up_proj", "down_proj", hidden, inner, gated=True)),
        Norm("attention_norm", hidden, part="vision"),
        Norm("ffn_norm", hidden, part="vision"),
    )
    tower: tuple[Module, ...] = (
        Weight("patch_conv.weight", (hidden, config.int("num_channels", default=3), patch, patch)),
        Norm("ln_pre", hidden, part="vision"),
        *(Block(f"transformer.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        *(
            Weight(f"patch_positional_embedding.{name}", (size // 2,), dtype="float32")
            for name in ("inv_freq", "original_inv_freq")
        ),
    )
    side = facts.top.int("spatial_merge_size", default=2)
    bias = bool(facts.top.get("multimodal_projector_bias"))
    projector: tuple[Module, ...] = (
        Norm("norm", hidden, part="vision"),
        Weight("patch_merger.merging_layer.weight", (hidden, hidden * side**2)),
        *mlp_pair(*_PAIR, hidden, facts.hidden, out=facts.hidden, bias=bias),
    )
    return (
        Block("vision_tower", tower, "vision", is_tower=True),
        Block("multi_modal_projector", projector, "vision"),
    )


def llama4(facts: Facts) -> Sequence[Module]:
    """Encoder, adapter behind a pixel shuffle, projector."""
    config = part(facts, "vision_config", "llama4_vision_model")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    positions = (config.int("image_size") // patch) ** 2 + 1
    attention: tuple[Module, ...] = (
        *attention_pair("qkv_proj", "o_proj", hidden, heads, bias=True),
        Rotary(positions, hidden // heads // 2, "complex64", "vision"),
    )
    layer: tuple[Module, ...] = (
        Block("self_attn", attention),
        Block("mlp", mlp_pair("fc1", "fc2", hidden, inner, bias=True)),
        Norm("input_layernorm", hidden, True, part="vision"),
        Norm("post_attention_layernorm", hidden, True, part="vision"),
    )
    ratio = config.float("pixel_shuffle_ratio", default=0.5, minimum=0.01, maximum=10.0)
    shuffled = int(hidden / ratio**2)
    projector_in = config.int("projector_input_dim", default=4096)
    projector_out = config.int("projector_output_dim", default=4096)
    out = config.int("vision_output_dim", default=projector_out)
    adapter = mlp_pair("fc1", "fc2", shuffled, projector_in, out=projector_out)
    tower: tuple[Module, ...] = (
        Weight("class_embedding", (hidden,)),
        Weight("positional_embedding_vlm", (positions, hidden)),
        Linear("patch_embedding.linear", 3 * patch * patch, (hidden,)),
        Norm("layernorm_pre", hidden, True, part="vision"),
        Norm("layernorm_post", hidden, True, part="vision"),
        *(Block(f"model.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        Block("vision_adapter.mlp", adapter),
    )
    return (
        Block("vision_model", tower, "vision", is_tower=True),
        Block("multi_modal_projector", (Linear("linear_1", out, (facts.hidden,)),), "vision"),
    )


def minimax_m3(facts: Facts) -> Sequence[Module]:
    """Encoder, projector, patch merger."""
    config = part(facts, "vision_config", "clip_vision_model")
    if config is None or not facts.builds_tower("image", "video"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    merge = config.opt_sub("img_token_compression_config")
    frames = 2 if merge is None else merge.int("temporal_patch_size", default=2)
    side = 2 if merge is None else merge.int("spatial_merge_size", default=2)
    size = hidden // heads
    layer: tuple[Module, ...] = (
        Block("self_attn", attention_pair("qkv_proj", "out_proj", hidden, heads, bias=True)),
        Norm("layer_norm1", hidden, True, part="vision"),
        Norm("layer_norm2", hidden, True, part="vision"),
        *mlp_pair("fc1", "fc2", hidden, inner, bias=True),
    )
    axes = 2 * (size // 2 // 3) // 2
    inside: tuple[Module, ...] = (
        Weight("embeddings.patch_embedding.weight", (hidden, 3, frames, patch, patch)),
        Norm("pre_layrnorm", hidden, True, part="vision"),
        *(Block(f"encoder.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        *(Weight(f"inv_freq_{axis}", (axes,), dtype="float32") for axis in "thw"),
    )
    text = facts.hidden
    middle = facts.top.int("projector_hidden_size", default=text)
    bias = facts.top.get("multimodal_projector_bias") is not False
    children: tuple[Module, ...] = (
        Block("vision_model", inside),
        Block("multi_modal_projector", mlp_pair(*_PAIR, hidden, middle, out=text, bias=bias)),
        Block("patch_merge_mlp", mlp_pair(*_PAIR, text * side**2, middle, out=text, bias=bias)),
    )
    return (Block("vision_tower", children, "vision", is_tower=True),)
