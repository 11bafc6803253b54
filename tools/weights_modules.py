"""What a built model of vLLM registers: modules by kind, with the widths of the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SCALES = ("_k_scale", "_v_scale", "_q_scale", "_prob_scale")

Row = tuple[str, str, dict[str, Any]]
"""Name of a module or tensor, kind, and what tells it from others of its kind."""


def rows(model: Any, dtype: str) -> Iterator[Row]:
    """Every module that registers something, in the order of the tree; each storage once."""
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    seen: set[int] = set()
    bases = sorted(
        {_base(module) for module in model.modules() if hasattr(module, "cos_sin_cache")}
    )
    for name, module in model.named_modules(remove_duplicate=False):
        own = {**module._parameters, **module._buffers}
        fresh = {}
        for key, tensor in own.items():
            if tensor is None:
                continue
            storage = tensor.untyped_storage()._cdata
            if key == "cos_sin_cache":
                yield name, "rotary", {**_shape(tensor), "variant": bases.index(_base(module))}
            elif storage not in seen:
                fresh[key] = tensor
            seen.add(storage)
        if not fresh:
            continue
        kind: tuple[str, dict[str, Any]] | None = None
        if isinstance(module, LinearBase):
            kind = "linear", linear(module, dtype)
        elif isinstance(module, VocabParallelEmbedding):
            kind = "embedding", embedding(module, fresh, dtype)
        elif hasattr(module, "expert_map_manager") and hasattr(module, "moe_config"):
            kind = "experts", experts(module, fresh)
        if kind is not None:
            yield name, *kind
            fresh = {k: t for k, t in fresh.items() if kind[0] == "linear" and _beside(k)}
        elif all(scale in fresh for scale in SCALES):
            yield name, "attention", {"is_latent": "MLA" in type(module).__name__}
            fresh = {k: t for k, t in fresh.items() if k not in SCALES}
        for key, tensor in fresh.items():
            yield f"{name}.{key}" if name else key, "weight", _shape(tensor, dtype)


def _base(module: Any) -> float:
    """What tells ropes of equal size apart."""
    return float(getattr(module, "base", 0) or 0)


def _beside(key: str) -> bool:
    """Whether a linear layer's tensor is neither its weight, bias nor a scale of these."""
    return not key.startswith(("weight", "bias", "input_scale"))


def _shape(tensor: Any, dtype: str | None = None) -> dict[str, Any]:
    own = str(tensor.dtype).removeprefix("torch.")
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    shape = {f"d{number}": int(size) for number, size in enumerate(tensor.shape)}
    if stored != tensor.numel():
        shape = {"d0": stored}
    return {**shape, **({} if own == dtype else {"dtype": own})}


def linear(module: Any, dtype: str) -> dict[str, Any]:
    """Widths of the whole model, how it is divided, what comes with it."""
    from vllm.model_executor.layers.linear import ReplicatedLinear, RowParallelLinear

    found: dict[str, Any] = {"in": module.input_size}
    if hasattr(module, "total_num_kv_heads"):
        found["out0"] = module.total_num_heads * module.head_size
        found["heads"] = module.total_num_kv_heads
        found["k_width"], found["v_width"] = module.head_size, module.v_head_size
        if hasattr(module, "total_num_index_heads"):
            found["index_heads"] = module.total_num_index_heads
    else:
        sizes = getattr(module, "output_sizes", None) or [module.output_size]
        found |= {f"out{number}": size for number, size in enumerate(sizes)}
    own = str(module.params_dtype).removeprefix("torch.")
    found["dtype"] = None if own == dtype else own
    found["shard"] = "row" if isinstance(module, RowParallelLinear) else "column"
    if isinstance(module, ReplicatedLinear) or module.disable_tp:
        found["shard"] = "none"
    bias = getattr(module, "bias", None)
    found["bias"] = bias is not None
    found["quantised"] = type(module.quant_method).__name__ != "UnquantizedLinearMethod"
    found["local"] = sum(t.numel() for t in module._parameters.values() if t is not None)
    return found


def embedding(module: Any, fresh: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Words and width; whether it is an output head."""
    own = str(module.weight.dtype).removeprefix("torch.") if hasattr(module, "weight") else dtype
    return {
        "rows": module.num_embeddings,
        "added": module.num_embeddings - module.org_vocab_size,
        "padding": module.padding_size,
        "width": module.embedding_dim,
        "head": type(module).__name__ == "ParallelLMHead",
        "bias": "bias" in fresh,
        "dtype": None if own == dtype else own,
        "sharded": not getattr(module, "disable_tp", False),
        "local": sum(t.numel() for t in fresh.values()),
    }


def experts(module: Any, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Routed experts of a layer."""
    config = module.moe_config
    size = config.moe_parallel_config.tp_size
    activation = getattr(config.activation, "value", str(config.activation))
    return {
        "experts": module.global_num_experts,
        "hidden": getattr(config, "hidden_dim_unpadded", None) or config.hidden_dim,
        "intermediate": size
        * (
            getattr(config, "intermediate_size_per_partition_unpadded", None)
            or config.intermediate_size_per_partition
        ),
        "gated": bool(config.is_act_and_mul),
        "bias": "w13_bias" in fresh,
        "score_bias": "e_score_correction_bias" in fresh,
        "activation": activation,
        "renormalizes": bool(module.renormalize),
        "projections": [
            module.ckpt_gate_proj_name,
            module.ckpt_up_proj_name,
            module.ckpt_down_proj_name,
        ],
        "local": sum(t.numel() * t.element_size() for t in fresh.values()),
    }


def tensor_bytes(model: Any) -> dict[str, int]:
    """Bytes of every tensor by name, each storage under its first."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        for key, tensor in {**module._parameters, **module._buffers}.items():
            if tensor is not None and tensor.untyped_storage()._cdata not in seen:
                seen.add(tensor.untyped_storage()._cdata)
                found[f"{name}.{key}" if name else key] = tensor.untyped_storage().nbytes()
    return found
