"""Weights of every pipeline stage's rank, in bytes: the tensors that vLLM's layers would hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...engine_args.engine_args import EngineArgs
from ...errors import UnsupportedError
from ...kv_cache.spec import round_up
from ...records import dataclass, field
from ..phase import allocated_bytes
from .experts import uses_triton_mxfp4
from .rank import Rank, Tensor


@dataclass(frozen=True, kw_only=True)
class StageWeights:
    """What one rank of a stage holds; ranks of a stage are alike but for a remainder of experts.

    Attributes:
        num_bytes: Parameters and buffers as the layers register them.
        parts: The same by what it belongs to.
        processing_bytes: What kernels' layouts add once weights are loaded; may be negative.
        padding_bytes: What the CUDA allocator adds: whole segments, and 512 bytes at least.
    """

    num_bytes: int
    parts: dict[str, int] = field(hash=False)
    processing_bytes: int = 0
    padding_bytes: int = 0

    @property
    def loaded_bytes(self) -> int:
        """What the engine reports: "Model loading took ... memory"."""
        return self.num_bytes + self.processing_bytes + self.padding_bytes


@dataclass(frozen=True, kw_only=True)
class WeightsEstimate:
    """Weights of the engine.

    Attributes:
        stages: One entry a pipeline stage, the first first.
        provenance: Where the figures come from, for the reader of the plan.
        uncertainty_bytes: Of the fullest stage: how far off the figure may be, either way.
        notes: Sentences for the reader.
    """

    stages: tuple[StageWeights, ...]
    provenance: str
    uncertainty_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> tuple[int, ...]:
        """Of each stage's rank, as the layers register it."""
        return tuple(stage.num_bytes for stage in self.stages)

    @property
    def loaded_bytes(self) -> tuple[int, ...]:
        """Of each stage's rank, as the engine reports it after loading."""
        return tuple(stage.loaded_bytes for stage in self.stages)


def total(
    registered: Sequence[Tensor], loaded: Sequence[Tensor], *, split_limited: bool
) -> StageWeights:
    """Added up, by part too: as registered, and as they lie once loaded."""
    parts: Counter[str] = Counter()
    for tensor in registered:
        parts[tensor.part] += tensor.num_bytes
    before = sum(parts.values())
    after = sum(tensor.num_bytes for tensor in loaded)
    allocated = sum(
        allocated_bytes(tensor.num_bytes, split_limited=split_limited) for tensor in loaded
    )
    return StageWeights(
        num_bytes=before,
        parts=dict(parts),
        processing_bytes=after - before,
        padding_bytes=allocated - after,
    )


GIB = 1 << 30


def left_on_gpu(tensors: Sequence[Tensor], args: EngineArgs) -> tuple[list[Tensor], int]:
    """Tensors that stay with ``--cpu-offload-gb``, and the bytes that move to host memory.

    Source: vLLM 0.33 ``model_executor/offloader/uva.py``: layer by layer, parameter by parameter,
    until what was moved is at least the budget.

    Raises:
        UnsupportedError: Whole groups of layers are fetched in turn (``--offload-group-size``).
    """
    if args.offload_group_size > 0:
        raise UnsupportedError(
            "--offload-group-size: weights fetched in turn are not planned for; --planner vllm "
            "can answer"
        )
    budget = int(args.cpu_offload_gb * GIB)
    kept: list[Tensor] = []
    moved = 0
    for tensor in tensors:
        if moved < budget and _may_move(tensor, args.cpu_offload_params):
            moved += tensor.num_bytes
        else:
            kept.append(tensor)
    return kept, moved


def _may_move(tensor: Tensor, only: tuple[str, ...]) -> bool:
    """Parameters of decoder layers; of those named, where some are."""
    path = tensor.name.split(".")
    if not any(part.isdigit() for part in path) or tensor.part in ("rotary", "vision", "audio"):
        return False
    return path[-1][:1] != "_" and (not only or any(name in path for name in only))


MIB = 1 << 20


def processed(tensors: Sequence[Tensor], rank: Rank) -> list[Tensor]:
    """The tensors as they lie once loaded (``process_weights_after_loading``).

    Kernels want weights in layouts of their own. Most keep the size; the exceptions known are
    here. What is not derived widens ``uncertainty``.
    """
    if rank.absorbs:
        tensors = [*tensors, *_absorbed(tensors, rank.dtype)]
    if rank.quantization.name == "gpt_oss_mxfp4" and uses_triton_mxfp4(rank):
        if rank.version <= (0, 19):
            return [*tensors, *_layout_of_0_19(tensors)]
        return [_swizzled(tensor) for tensor in tensors]
    # Machete, on Hopper only, leaves the zero points of symmetric GPTQ where they are.
    is_marlin = rank.compute_capability != (9, 0)
    if is_marlin and not rank.quantization.keeps_zeros:
        return [tensor for tensor in tensors if not tensor.name.endswith("qzeros")]
    return list(tensors)


_A_BYTE = {"float8_e4m3fn": 1, "int8": 1, "uint8": 2, "int32": 2}
"""Weights in a byte of a quantised matrix, by its dtype; words hold 4-bit weights."""


def _absorbed(tensors: Sequence[Tensor], dtype: str) -> list[Tensor]:
    """Copies of ``kv_b_proj`` in the model's dtype, which latent attention multiplies by.

    Views of the matrix itself where that is not quantised. Source:
    ``layers/attention/mla_attention.py`` ``process_weights_after_loading``; seen executed:
    4 MiB a layer of DeepSeek-V3 at TP 8.
    """
    ends = tuple(f".kv_b_proj.{name}" for name in ("weight", "weight_packed", "qweight"))
    return [
        Tensor(f"{each.name} absorbed", (each.num_bytes * _A_BYTE[each.dtype],), dtype, each.part)
        for each in tensors
        if each.name.endswith(ends) and each.dtype in _A_BYTE
    ]


_MORE_AT_0_19 = 0.0812


def _layout_of_0_19(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What Hopper's layout of gpt-oss's experts took more at 0.19.

    Measured, not derived: gpt-oss-20b on one H100 at 0.19.0 printed 13.64 GiB where its tensors
    take 12.87.
    """
    experts = sum(tensor.num_bytes for tensor in tensors if ".routed_experts." in tensor.name)
    return [Tensor("layout of 0.19", (int(experts * _MORE_AT_0_19),), "uint8", "experts")]


def _swizzled(tensor: Tensor) -> Tensor:
    """Hopper's layout of MXFP4 scales, and float32 biases.

    Rows of scales are padded to 256, columns to 4. Source: ``utils/mxfp4_utils.py``
    ``_swizzle_mxfp4``; triton_kernels ``HopperMXScaleLayout.swizzle_data``.
    """
    if tensor.name.endswith(("w13_weight_scale", "w2_weight_scale")):
        count, rows, columns = tensor.shape
        shape = (count, round_up(rows, 256), round_up(columns, 4))
        return Tensor(tensor.name, shape, tensor.dtype, tensor.part)
    if tensor.name.endswith(("w13_bias", "w2_bias")):
        return Tensor(tensor.name, tensor.shape, "float32", tensor.part)
    return tensor


_SHARE = {
    None: 0.001,
    "fp8": 0.016,
    "deepseek_v4_fp8": 0.016,
    "compressed-tensors": 0.016,
    "gpt_oss_mxfp4": 0.02,
}
"""How much kernels may add, by method: block scales repacked for DeepGEMM (1/128 of the weights)
or Marlin (1/64) are the largest. Engines on RTX PRO 4500 printed 0.9 % and 1.6 % more for
Qwen3-8B-FP8; unquantised models came within 0.1 % on H100 at 0.19.0."""
_OTHER_SHARE = 0.02
_UNLISTED_SHARE = 0.17
"""Of a ModelOpt config without exceptions, a copy cut short: every published one has them (the
draft layer, attention, the head). A start of Nemotron-3-Super-NVFP4 with MTP printed 12.4 % more;
the band reaches two fifths further."""


def uncertainty(stage: StageWeights, rank: Rank) -> int:
    """How far off a stage's figure may be."""
    share = _SHARE.get(rank.quantization.name, _OTHER_SHARE)
    if rank.quantization.lists_no_exceptions:
        share = _UNLISTED_SHARE
    workspaces = 16 * MIB if rank.tensor_parallel_size == 1 else 96 * MIB
    return int(stage.num_bytes * share) + workspaces
