"""Weights that stay in host memory: ``--cpu-offload-gb``.

Source: vLLM 0.33 ``model_executor/offloader/uva.py``: layer by layer, parameter by parameter,
until what was moved is at least the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...engine_args.engine_args import EngineArgs
from ...errors import UnsupportedError
from .tensor import Tensor

GIB = 1 << 30


def left_on_gpu(tensors: Sequence[Tensor], args: EngineArgs) -> tuple[list[Tensor], int]:
    """Tensors that stay, and the bytes that move.

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
