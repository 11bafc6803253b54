"""One lesson: what one real start taught about its device."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from ..records import dataclass, fields

WEIGHT_FLAGS = (
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    *("enable_expert_parallel", "quantization", "quantization_config", "load_format"),
    *("language_model_only", "enable_lora", "max_loras", "max_lora_rank", "lora_dtype"),
    *("cpu_offload_gb", "offload_group_size", "speculative_config", "hf_overrides", "enable_eplb"),
)
"""Flags that change the weights of a rank: engines equal in these hold the same."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Bytes of one rank; ``None``: that start did not tell.

    Attributes:
        device: The GPU's short name.
        vllm_version: As the log states it.
        model: The model's id.
        weights_key: The model and flags that decide its weights, as one text.
        tensor_parallel_size: Ranks a layer is divided among.
        pipeline_parallel_size: Stages.
        attention_backend: The first layer's.
        activation_key: What the activation peak depends on, as one text.
        activation_bytes: Peak of the profile run, without the CUDA graph estimate.
        total_bytes: The GPU's memory as CUDA reports it.
        taken_at_start_bytes: Gone before the engine looked first.
        weights_bytes: "Model loading took".
        outside_bytes: What stays beside weights and the runner's buffers.
        outside_spread_bytes: How far off that may be: the log's digits, or what it was
            worked out from.
        graph_estimate_bytes: vLLM's estimate of its CUDA graphs.
        graph_predicted_bytes: The planner's own figure for it, uncalibrated.
        source: The log's name.
        learned: The day, as YYYY-MM-DD.
    """

    device: str
    vllm_version: str
    model: str
    weights_key: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    attention_backend: str | None
    activation_key: str | None
    activation_bytes: int | None
    total_bytes: int | None
    taken_at_start_bytes: int | None
    weights_bytes: int | None
    outside_bytes: int | None
    outside_spread_bytes: int
    graph_estimate_bytes: int | None
    graph_predicted_bytes: int | None
    source: str
    learned: str

    @property
    def minor(self) -> tuple[int, int]:
        """vLLM's minor version."""
        return minor_version(self.vllm_version)

    @property
    def engine(self) -> tuple[object, ...]:
        """Which start of which engine: a log read again replaces what it taught before."""
        return (self.device, self.vllm_version, self.weights_key, self.source)

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def minor_version(version: str) -> tuple[int, int]:
    """``0.28.1rc1`` and ``v0.28`` as (0, 28).

    Raises:
        InputError: No version in it.
    """
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?!\d)", version)
    if found is None:
        raise InputError(f"{version[:40]!r} is no version of vLLM, such as 0.33.0")
    return int(found[1]), int(found[2])


def weights_key(model: str, dtype: str, args: Any) -> str:
    """Model, dtype and the flags that decide a rank's weights, those at their default left out."""
    from ..engine_args.engine_args import EngineArgs

    plain = EngineArgs(model=model)
    changed = [
        f"{name}={getattr(args, name)!r}"
        for name in WEIGHT_FLAGS
        if getattr(args, name) != getattr(plain, name)
    ]
    return " ".join([model, dtype, *changed])
