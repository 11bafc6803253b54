"""The answer: one ``Plan``, the same object for the Python API, JSON, text and every other output.

Sizes are bytes as ``int``; ``None`` means unknown, never a guess. Keys of ``Plan.to_dict()`` are
stable from ``schema_version`` 1 on.
"""

from __future__ import annotations

from typing import Any

from ..records import as_plain, dataclass, field

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlannerInfo:
    """Who answered: ``standalone`` (rules restated) or ``vllm`` (vLLM's own code)."""

    name: str
    version: str
    vllm_version: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model, and where its config was found (local, hf-cache, bundled, hub or custom)."""

    id: str
    architecture: str
    config_source: str
    revision: str | None
    num_layers: int


@dataclass(frozen=True, kw_only=True)
class GPUInfo:
    """The GPU; ``num_gpus`` of all ranks together.

    ``total_memory_bytes`` is what CUDA reports; None where nobody has printed that. The memory is
    then planned for an estimate on the small side, which a note says.
    """

    name: str
    total_memory_bytes: int | None
    num_gpus: int


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """The engine's settings as vLLM would resolve them, by vLLM's names."""

    dtype: str
    kv_cache_dtype: str
    block_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    decode_context_parallel_size: int
    enforce_eager: bool
    enable_prefix_caching: bool
    quantization: str | None
    attention_backend: str | None
    speculative: str | None


@dataclass(frozen=True, kw_only=True)
class StartMemory:
    """What one kind of start has for its KV cache, and how far off that may be; bytes."""

    start: str
    available_kv_cache_bytes: int
    uncertainty_bytes: int


@dataclass(frozen=True, kw_only=True)
class PhaseMemory:
    """The most that one phase of the profile run takes above weights and buffers, in bytes.

    ``executed``: by vLLM's own code, without a GPU; else by the rules restated here.
    """

    name: str
    num_bytes: int
    executed: bool


@dataclass(frozen=True, kw_only=True)
class MemoryInfo:
    """Bytes of the tightest rank, and for each part where its figure comes from.

    ``starts``: where starts of this engine differ (one compiles the model, the next finds it in
    vLLM's cache), each kind by itself, the planned one first. ``uncertainty_bytes`` holds nine
    starts of ten of whatever kind. ``phases``: of the activation peak, where vLLM's own profile run
    was executed.
    """

    requested_bytes: int | None
    weights_bytes: int | None
    activation_peak_bytes: int | None
    cuda_graph_bytes: int | None
    non_torch_bytes: int | None
    available_kv_cache_bytes: int | None
    uncertainty_bytes: int | None
    provenance: dict[str, str] = field(hash=False)
    starts: tuple[StartMemory, ...] = ()
    phases: tuple[PhaseMemory, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GroupInfo:
    """One KV cache group of the tightest rank.

    ``page_size_bytes`` is one layer's page; where layers of different shape share a group, the
    sum of all its layers' pages, as vLLM reports it.
    """

    kind: str
    num_layers: int
    block_size: int
    page_size_bytes: int
    blocks_per_request: int


@dataclass(frozen=True, kw_only=True)
class KVCacheInfo:
    """How the KV memory divides; per data-parallel engine, bytes on one GPU.

    What depends on the memory is None where that is not known.

    Attributes:
        bytes_per_token: One more token of context, over the layers whose cache grows with it.
        bytes_per_block: One block id, whichever group holds it.
        num_gpu_blocks: As the engine logs it, null block included.
        kv_cache_size_tokens: ``max_concurrency`` times ``max_model_len``.
        max_concurrency: Requests of ``max_model_len`` at once.
        max_model_len_that_fits: Longest context one request may have, up to the model's own.
        groups: The KV cache groups.
    """

    bytes_per_token: int
    bytes_per_block: int
    num_gpu_blocks: int | None
    kv_cache_size_tokens: int | None
    max_concurrency: float | None
    max_model_len_that_fits: int | None
    groups: tuple[GroupInfo, ...]


FITS = "fits"
BORDERLINE = "borderline"
DOES_NOT_FIT = "does_not_fit"
REFUSED = "refused"
VERDICTS = (FITS, BORDERLINE, DOES_NOT_FIT, REFUSED)
"""What can be said of a set-up; the last one only in a table, for a row that has no plan."""


@dataclass(frozen=True, kw_only=True)
class ChangeInfo:
    """One flag changed, planned again for real: with it the engine surely starts.

    ``flag`` is vLLM's name of it (``gpu`` for another device), ``value`` its new value, ``gains``
    what is had for it and what is given, in words.
    """

    flag: str
    value: Any
    gains: str


@dataclass(frozen=True, kw_only=True)
class HostInfo:
    """The host's part of a memory that is not the GPU's alone; bytes.

    ``unified_memory``: the GPU's memory is the host's (GB10, Thor, Orin); false where the host may
    keep pages in it (GH200, GB200, GB300). ``left_bytes`` is what ``gpu_memory_utilization`` leaves
    the host of ``total_bytes``, ``wanted_bytes`` what it should have.
    """

    unified_memory: bool
    total_bytes: int
    left_bytes: int
    wanted_bytes: int


@dataclass(frozen=True, kw_only=True)
class RiskInfo:
    """What requests may take beyond the profile run (None: not known); bytes of one GPU.

    ``lasts``: once taken it stays. ``remedy`` is the flag or variable that removes or shrinks it.
    """

    name: str
    size_bytes: int | None
    lasts: bool
    source: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class HeadroomInfo:
    """What is left on the GPU once the KV cache is allocated and graphs are captured; bytes.

    ``left_bytes``: beside what profiled steps take; ``wanted_bytes``: all risks that last, and the
    largest of the others.
    """

    left_bytes: int
    uncertainty_bytes: int
    wanted_bytes: int
    risks: tuple[RiskInfo, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything the planner has to say about one engine.

    ``limits`` says what decides against a plan that does not surely fit, ``changes`` the smallest
    change that would make it fit; ``fits`` is ``verdict == "fits"``.
    """

    schema_version: int = SCHEMA_VERSION
    planner: PlannerInfo
    model: ModelInfo
    gpu: GPUInfo
    engine: EngineInfo
    memory: MemoryInfo
    kv_cache: KVCacheInfo
    verdict: str
    limits: tuple[str, ...] = ()
    changes: tuple[ChangeInfo, ...] = ()
    host: HostInfo | None = None
    headroom: HeadroomInfo | None = None
    fits: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain dictionaries and lists, in the order of the contract."""
        plain = as_plain(self)
        assert isinstance(plain, dict)
        return plain
