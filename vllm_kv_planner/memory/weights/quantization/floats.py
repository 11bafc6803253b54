"""Checkpoints of 8-bit and 4-bit floats: ``fp8``, MXFP4 and NVIDIA ModelOpt's.

Source: vLLM 0.33 ``layers/quantization/fp8.py`` ``Fp8Config``; ``mxfp4.py``,
``models/deepseek_v4/quant_config.py``; ``modelopt.py`` ``ModelOptQuantConfigBase``,
``ModelOptMixedPrecisionConfig._resolve_quant_algo``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnsupportedError
from .base import (
    PROJECTIONS,
    ExpertsMethod,
    LinearMethod,
    Quantization,
    Spec,
    UnquantizedExperts,
)
from .blocks import Fp4, Fp4Linear, Fp8Experts, Fp8Linear, Int8, Mxfp4Experts, Mxfp8
from .names import Parts, SkippedLayers, listed, parts_of, renamed


class Fp8(Quantization):
    """8-bit floats with scales by block or by matrix."""

    name = "fp8"
    scale_dtype = "float32"

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        skipped = listed(config, "ignored_layers", "modules_to_not_convert")
        self.skipped = SkippedLayers(renamed(skipped, is_composite=is_composite))
        block = config.get("weight_block_size")
        static = config.get("activation_scheme") == "static"
        strategy, size = "tensor", (128, 128)
        if block is not None:
            strategy, size = "block", block_size(block)
        self._linear = Fp8Linear(strategy, size, static, self.scale_dtype)
        self._experts = Fp8Experts(strategy, size, static)
        self.description = (
            f"8-bit floats, {size[0]} x {size[1]} blocks" if block else "8-bit floats, a scale each"
        )

    def linear(self, prefix: str) -> LinearMethod | None:
        """Unless the checkpoint leaves it out."""
        return None if prefix in self.skipped else self._linear

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Unless the checkpoint leaves them out."""
        return UnquantizedExperts() if prefix in self.skipped else self._experts

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """``BaseKVCacheMethod``, for ``Attention`` but not for ``MLAAttention``."""
        return () if is_latent else SCALES


SCALES: Sequence[Spec] = tuple(
    (name, (), "bfloat16") for name in ("q_scale", "k_scale", "v_scale", "prob_scale")
)


def block_size(value: object) -> tuple[int, int]:
    """``weight_block_size``: two positive numbers.

    Raises:
        UnsupportedError: It is anything else.
    """
    if isinstance(value, (list, tuple)) and len(value) == 2:
        rows, columns = value
        if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
            return rows, columns
    raise UnsupportedError("quantization_config: weight_block_size must be two positive numbers")


class Mxfp4(Quantization):
    """``mxfp4``: experts only; linear layers stay as they are (``Mxfp4Config``)."""

    name = "mxfp4"
    description = "experts in 4-bit floats, 32 to an exponent"
    method = Mxfp4Experts()

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return self.method


class GptOssMxfp4(Mxfp4):
    """``gpt_oss_mxfp4``: the same, with another choice of kernels."""

    name = "gpt_oss_mxfp4"
    method = Mxfp4Experts(prefers_triton=True)


class DeepSeekV4(Fp8):
    """``deepseek_v4_fp8``: 8-bit blocks, experts in 4 bits (MXFP4, or NVFP4 where it says so)."""

    name = "deepseek_v4_fp8"
    scale_dtype = "float8_e8m0fnu"

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        super().__init__(config, is_composite=is_composite)
        self.is_nvfp4 = str(config.get("moe_quant_algo") or "").upper() == "NVFP4"
        self.description = f"8-bit float blocks, experts {'NVFP4' if self.is_nvfp4 else 'MXFP4'}"

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Unless the checkpoint leaves them out."""
        if prefix in self.skipped:
            return UnquantizedExperts()
        return Fp4() if self.is_nvfp4 else Mxfp4Experts()

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """Its attention is no ``Attention``."""
        return ()


_TOWERS = ("vision_tower", "vision_model", "vit_large_projector")
_LONGEST_NAME, _MOST_PARENTS = 200, 100_000
_LINEAR: Mapping[str, LinearMethod] = {
    "FP8": Fp8Linear("tensor", has_input_scale=True),
    "FP8_PER_CHANNEL_PER_TOKEN": Fp8Linear("channel"),
    "FP8_PB_WO": Fp8Linear("block"),
    "FP8_BLOCK_SCALES": Fp8Linear("block"),
    "NVFP4": Fp4Linear(),
    "W4A16_NVFP4": Fp4Linear(input_scale_dtype="bfloat16"),
    "MXFP8": Mxfp8(),
}
_EXPERTS: Mapping[str, ExpertsMethod] = {
    "FP8": Fp8Experts("tensor", has_input_scale=True),
    "FP8_PB_WO": Fp8Experts("block"),
    "FP8_BLOCK_SCALES": Fp8Experts("block"),
    "NVFP4": Fp4(),
    "W4A16_NVFP4": Fp4(),
    "MXFP8": Mxfp8(),
}


class ModelOpt(Quantization):
    """``modelopt``, ``modelopt_fp4``, ``modelopt_mxfp8`` and ``modelopt_mixed``."""

    name = "modelopt"

    def __init__(self, config: Mapping[str, Any], *, is_composite: bool) -> None:
        inner = config.get("quantization")
        config = inner if isinstance(inner, Mapping) else config
        self.algorithm = str(config.get("quant_algo") or "").upper()
        if self.algorithm not in (*_LINEAR, "MIXED_PRECISION"):
            raise UnsupportedError(f"ModelOpt quant_algo {self.algorithm[:40]!r} is not known")
        names = listed(config, "ignore" if "ignore" in config else "exclude_modules")
        excluded = renamed(_split(names), is_composite=is_composite)
        self.skipped = SkippedLayers(excluded)
        self.excluded = Parts(excluded, has_wildcards=True)
        layers = config.get("quantized_layers")
        self.layers: dict[str, str] = {}
        self.parents: dict[str, str] = {}
        if isinstance(layers, Mapping):
            self._read(layers, is_composite=is_composite)
        self.is_mixed = self.algorithm == "MIXED_PRECISION"
        self.lists_no_exceptions = not names and not self.is_mixed
        scheme = config.get("kv_cache_scheme")
        self.has_kv_scales = bool(config.get("kv_cache_quant_algo")) or isinstance(scheme, Mapping)
        self.description = f"ModelOpt {self.algorithm}"

    def _read(self, layers: Mapping[str, Any], *, is_composite: bool) -> None:
        names = renamed((str(name) for name in layers), is_composite=is_composite)
        for name, said in zip(names, layers.values(), strict=True):
            algorithm = said.get("quant_algo") if isinstance(said, Mapping) else None
            self.layers[name] = str(algorithm or "").upper()
            if len(name) > _LONGEST_NAME or len(self.parents) > _MOST_PARENTS:
                raise UnsupportedError(
                    "quantization_config: quantized_layers has longer names, or more modules, "
                    "than the stand-alone planner reads"
                )
            algorithm = self.layers[name]
            while (name := name.rpartition(".")[0]) and name not in self.parents:
                self.parents[name] = algorithm

    def linear(self, prefix: str) -> LinearMethod | None:
        """Unless excluded, by the one algorithm or the layer's own."""
        if self._is_excluded(prefix) or (
            not self.is_mixed and any(tower in prefix for tower in _TOWERS)
        ):
            return None
        return _LINEAR.get(self._algorithm(prefix))

    def lm_head(self, prefix: str) -> LinearMethod | None:
        """As any other linear layer."""
        return self.linear(prefix)

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Unless excluded, by the one algorithm or the layer's own."""
        if self._is_excluded(prefix):
            return UnquantizedExperts()
        return _EXPERTS.get(self._algorithm(prefix), UnquantizedExperts())

    def attention(self, *, is_latent: bool) -> Sequence[Spec]:
        """Scales of the KV cache; with mixed algorithms only where the checkpoint has them."""
        if self.is_mixed and (not self.has_kv_scales or is_latent):
            return ()
        return SCALES

    def _algorithm(self, prefix: str) -> str:
        if not self.is_mixed:
            return self.algorithm
        for name in (prefix, *parts_of(prefix)):
            if name in self.layers:
                return self.layers[name]
        if prefix in self.parents:
            return self.parents[prefix]
        if prefix.endswith(".experts"):
            return self.parents.get(prefix.removesuffix(".experts"), "")
        if prefix.endswith(".lm_head"):
            return self.layers.get("lm_head", "")
        return ""

    def _is_excluded(self, prefix: str) -> bool:
        if prefix in self.skipped:
            return True
        return self.excluded.match(prefix, prefix.removeprefix("language_model."))


def _split(names: Sequence[str]) -> list[str]:
    """``path*`` stands for the module and all below it (``apply_vllm_mapper``)."""
    found: list[str] = []
    for name in names:
        if len(name) >= 2 and name[-1] == "*" and name[-2] != ".":
            found += [name[:-1], name[:-1] + ".*"]
        else:
            found.append(name)
    return found


ONLINE: Mapping[str, tuple[LinearMethod | None, ExpertsMethod]] = {
    "fp8": (Fp8Linear(), Fp8Experts()),
    "fp8_per_tensor": (Fp8Linear(), Fp8Experts()),
    "fp8_per_block": (Fp8Linear("block"), Fp8Experts("block")),
    "fp8_per_channel": (Fp8Linear("channel"), Fp8Experts("channel")),
    "mxfp8": (Mxfp8(), Mxfp8()),
    "mxfp4": (None, Mxfp4Experts()),
    "int8_per_channel_weight_only": (None, Int8()),
    "nvfp4_per_token": (None, Fp4()),
}
"""``--quantization`` values that need no quantised checkpoint: how layers and experts end up."""


class Online(Quantization):
    """Weights quantised while they are loaded: what stays in memory counts.

    Source: vLLM 0.33 ``layers/quantization/online/`` (``OnlineQuantizationConfig``).
    """

    def __init__(self, method: str) -> None:
        self.name = method
        self.description = f"quantised while loading ({method})"
        self._linear, self._experts = ONLINE[method]

    def linear(self, prefix: str) -> LinearMethod | None:
        """Every linear layer of the language model and its towers; heads stay as they are."""
        return self._linear

    def experts(self, prefix: str, projections: Sequence[str] = PROJECTIONS) -> ExpertsMethod:
        """Every layer's."""
        return self._experts
