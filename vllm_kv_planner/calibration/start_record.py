"""The record of one real start: what it says of its device."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from ..memory.activation import bounded
from ..records import dataclass, fields
from ..units import gib

WEIGHT_FLAGS = (
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    *("enable_expert_parallel", "quantization", "quantization_config", "load_format"),
    *("language_model_only", "enable_lora", "max_loras", "max_lora_rank", "lora_dtype"),
    *("cpu_offload_gb", "offload_group_size", "speculative_config", "hf_overrides", "enable_eplb"),
)
"""Flags that change the weights of a rank: engines equal in these hold the same."""

LONGEST_TEXT = 5000
MOST_BYTES = 1 << 42
"""No device has 4 TiB."""
LEAST_OUTSIDE = -(1 << 30)
"""Worked out by subtraction, it may come out a little below nothing."""
SLACK = 0.03
"""Share of the total by which rounded parts may seem to be more than all of it."""
_TEXTS = frozenset({"device", "vllm_version", "model", "weights_key", "source", "learned"})
_OPTIONAL_TEXTS = frozenset({"attention_backend", "activation_key"})
_COUNTS = frozenset({"tensor_parallel_size", "pipeline_parallel_size"})
_PARTS = ("weights_bytes", "activation_bytes", "outside_bytes")


@dataclass(frozen=True, kw_only=True)
class StartRecord:
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


def read_start_record(row: Any) -> StartRecord:
    """A record as the file holds it; who writes one asks here first.

    Raises:
        InputError: It is none, or holds what cannot be; says what.
    """
    names = [each.name for each in fields(StartRecord)]
    if not isinstance(row, dict) or set(row) != set(names):
        raise InputError("it does not hold what a record holds")
    wrong = next((name for name, value in row.items() if not _is_valid(name, value)), None)
    if wrong is not None:
        raise InputError(f"its {wrong} cannot be")
    record = StartRecord(**row)
    _ = record.minor
    total = record.total_bytes
    if total is not None:
        most = total + int(total * SLACK)
        sizes = [name for name in row if name.endswith("_bytes")]
        above = next((name for name in sizes if (row[name] or 0) > most), None)
        if above is not None:
            raise InputError(f"its {above} is more than the GPU's {gib(total)}")
        if sum(row[name] or 0 for name in _PARTS) > most:
            raise InputError(f"its parts are more than the GPU's {gib(total)}")
    return record


def _is_valid(name: str, value: Any) -> bool:
    if name in _TEXTS | _OPTIONAL_TEXTS:
        is_text = isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
        return is_text or (value is None and name in _OPTIONAL_TEXTS)
    if value is None:
        return name not in _COUNTS and name != "outside_spread_bytes"
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    if name in _COUNTS:
        return 1 <= value <= 1 << 30
    return (LEAST_OUTSIDE if name == "outside_bytes" else 0) <= value <= MOST_BYTES


def minor_version(version: str) -> tuple[int, int]:
    """``0.28.1rc1`` and ``v0.28`` as (0, 28).

    Raises:
        InputError: No version in it.
    """
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?!\d)", version, re.ASCII)
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
    return bounded(" ".join([model, dtype, *changed]))
