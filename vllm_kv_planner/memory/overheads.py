"""What was measured because it cannot be derived (``overheads.json``), and memory outside PyTorch.

CUDA's context is older than vLLM's first snapshot and so does not count against the engine; kernels
loaded later, NCCL's buffers of first use and FlashInfer's own allocations do. None of it can be
derived: every figure is a row of the file. What DeepEP reserves can, see ``all2all``.

Source: vLLM 0.33 ``utils/mem_utils.py`` ``memory_profiling``, ``v1/worker/gpu_worker.py``
``init_device`` (NCCL and, from 0.33 on, cuBLAS start before the snapshot).
"""

from __future__ import annotations

from functools import lru_cache
from math import hypot
from typing import Any

from ..files.json_file import read_json
from ..model.layers.delta_net import GatedDeltaNet
from ..records import dataclass
from .doubt import Doubt, doubt_rows, find_doubt, versions_of
from .experts import rocm_padding
from .forward import benchmarked_table
from .rank import Rank

MIB = 1 << 20
_CARRIED = 0.5
"""Of a figure of another device, how much is added to its own spread."""
_BUFFER = 1 << 30
WINDOWS = "Windows"
"""In place of a device's name, in rows of ``at_start``."""
_NODE = 8
"""GPUs of a node, as far as anyone says."""
_HEADER = 16
_OVER_NCCL = ("allgather_reducescatter", "naive", "pplx")
"""The last two are gone; vLLM takes the first in their place."""


@dataclass(frozen=True)
class Outside:
    """Bytes outside PyTorch's tensors, how far off they may be, and where they come from.

    ``cold_bytes`` of them are there only after a start that compiled the model.
    """

    size_bytes: int
    uncertainty_bytes: int
    how: str
    cold_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row; bytes.

    Attributes:
        first, last: Minor versions of vLLM it holds for.
        device: A device's short name or its beginning; None: any device.
        ranks: Tensor-parallel sizes, from and to.
        pipeline: For stages of one GPU each.
        spread_bytes: How far the records lie from it.
        source: Which records.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    device: str | None
    ranks: tuple[int, int]
    pipeline: bool
    size_bytes: int
    spread_bytes: int
    source: str

    def fits(self, version: tuple[int, int], device: str, tp: int, pipeline: bool) -> bool:
        """Whether the row speaks of this engine."""
        named = self.device is None or device.startswith(self.device)
        ranked = self.ranks[0] <= tp <= self.ranks[1]
        return self.first <= version <= self.last and named and ranked and self.pipeline == pipeline

    @property
    def uncertainty_bytes(self) -> int:
        """The spread, and half the figure once more where it comes from other devices."""
        carried = self.size_bytes * _CARRIED if self.device is None else 0.0
        return self.spread_bytes + int(carried)


@dataclass(frozen=True, kw_only=True)
class GraphRatio:
    """What vLLM estimated on a device over what the model of CUDA graphs says for that engine."""

    device: str
    backend: str | None
    model: str
    ratio: float
    source: str


@dataclass(frozen=True, kw_only=True)
class SeenActivation:
    """The activation peak that a start printed; bytes of a rank of one stage.

    Attributes:
        engine: Device, version, model and flags, as ``activation.engine_of`` writes them.
        spread_bytes: What its digits leave open.
    """

    engine: str
    size_bytes: int
    spread_bytes: int
    source: str


@dataclass(frozen=True, kw_only=True)
class GraphCosts:
    """Constants of the CUDA graph model; bytes. ``ratios``: what starts on a device taught."""

    first_piecewise_bytes: int
    first_full_bytes: int
    least_elsewhere_bytes: int
    piecewise_bytes_per_layer: int
    full_bytes_per_layer: int
    source: str
    ratios: tuple[GraphRatio, ...] = ()

    def ratio(self, device: str, backend: str | None, model: str) -> GraphRatio | None:
        """The device's ratio: of this model and backend, of the backend, or of the model."""
        here = [each for each in self.ratios if each.device == device]
        alike = [each for each in here if each.backend == backend]
        own = [each for each in here if each.model == model]
        both = [each for each in alike if each.model == model]
        return next(iter(both or alike or own), None)


@dataclass(frozen=True, kw_only=True)
class Overheads:
    """The whole file; ``activation``: what starts on this machine printed."""

    non_torch: tuple[Measured, ...]
    warm_up: tuple[Measured, ...]
    unexplained: tuple[Doubt, ...]
    at_start: tuple[Measured, ...]
    graphs: GraphCosts
    activation: tuple[SeenActivation, ...] = ()


@lru_cache(maxsize=1)
def known_overheads() -> Overheads:
    """The bundled measurements."""
    found = read_json(__file__, "overheads.json")
    graphs = found["cuda_graphs"]
    return Overheads(
        non_torch=_rows(found["non_torch"]),
        warm_up=_rows(found["warm_up"]),
        unexplained=doubt_rows(found["unexplained"]),
        at_start=_rows(found["at_start"]),
        graphs=GraphCosts(
            first_piecewise_bytes=_bytes(graphs["first_piecewise_mib"]),
            first_full_bytes=_bytes(graphs["first_full_mib"]),
            least_elsewhere_bytes=_bytes(graphs["least_elsewhere_mib"]),
            piecewise_bytes_per_layer=_bytes(graphs["piecewise_mib_per_layer"]),
            full_bytes_per_layer=_bytes(graphs["full_mib_per_layer"]),
            source=str(graphs["source"]),
        ),
    )


def find_row(
    rows: tuple[Measured, ...], version: tuple[int, int], device: str, tp: int, pipeline: bool
) -> Measured | None:
    """The first row that fits: rows of one device stand before those of any."""
    return next((row for row in rows if row.fits(version, device, tp, pipeline)), None)


def _rows(rows: list[dict[str, Any]]) -> tuple[Measured, ...]:
    return tuple(
        Measured(
            first=versions_of(row)[0],
            last=versions_of(row)[1],
            device=row.get("device"),
            ranks=tuple(row.get("ranks", (1, 1 << 20))),
            pipeline=bool(row.get("pipeline", False)),
            size_bytes=_bytes(row["mib"]),
            spread_bytes=_bytes(row.get("spread_mib", 0)),
            source=row["source"],
        )
        for row in rows
    )


def _bytes(mib: float) -> int:
    return int(mib * MIB)


def non_torch(rank: Rank, overheads: Overheads) -> Outside:
    """Growth outside PyTorch between the first snapshot and the end of the profile run."""
    setup = rank.setup
    device, version = setup.gpu.short_name, rank.rules.version
    pipeline = rank.tp == 1 and setup.args.pipeline_parallel_size > 1
    row = find_row(overheads.non_torch, version, device, rank.tp, pipeline)
    if row is None:
        return Outside(0, 0, "no record")
    size, unsure, how = row.size_bytes, row.uncertainty_bytes, _how(row.source, row.device)
    seen = row.source.startswith("calibrated")
    table = kept_table(rank)
    if table:
        size += table
        unsure += table // 10
        how += "; and, where it compiles, the memory of a second embedding table, not given back"
    large = find_row(overheads.warm_up, version, device, rank.tp, pipeline)
    # gated-delta layers' kernels tune themselves
    tunes = any(isinstance(layer, GatedDeltaNet) for layer in setup.model.layers)
    if large is not None and not seen and tunes:
        size += large.size_bytes
        unsure += large.spread_bytes
        how += f"; and {large.source}"
    pads, holes = (0, 0) if seen else rocm_padding(rank)
    if pads:
        size += pads + holes
        unsure += holes // 5
        how += "; and ROCm's padding of unquantised experts"
    rest = None if seen else find_doubt(rank, overheads.unexplained)
    if rest is not None:
        extra = unsure - row.uncertainty_bytes
        unsure = int(hypot(extra, max(row.uncertainty_bytes, rest.bytes_on(rank))))
    # what a start on this machine printed has it already
    exchange = None if seen else all2all(rank)
    if exchange is not None:
        size, unsure = size + exchange.size_bytes, unsure + exchange.uncertainty_bytes
        how += exchange.how
    return Outside(size, unsure, how, cold_bytes=table)


def kept_table(rank: Rank) -> int:
    """Bytes that compiling's second embedding table leaves behind; 0 where it leaves none.

    cuBLAS's workspace, which stays too, was cut from it. ROCm's starts do not show it.
    """
    if not rank.rules.keeps_measured_table or rank.setup.gpu.platform == "rocm":
        return 0
    return max(0, benchmarked_table(rank) - rank.blas_workspace)


def taken_at_start(rank: Rank, overheads: Overheads) -> Outside:
    """Memory of the GPU that is gone before vLLM's first snapshot: context, NCCL, others."""
    gpu = rank.setup.gpu
    device = WINDOWS if gpu.under_windows else gpu.short_name
    world = rank.tp * rank.setup.args.pipeline_parallel_size
    row = find_row(overheads.at_start, rank.rules.version, device, world, False)
    if row is None:
        return Outside(0, 0, "no record")
    return Outside(row.size_bytes, row.spread_bytes, _how(row.source, row.device))


def _how(source: str, device: str | None) -> str:
    measured = device is not None and not source.startswith("as other")
    return f"{'measured' if measured else 'carried over'}: {source}"


def all2all(rank: Rank) -> Outside | None:
    """What the exchange of tokens among expert-parallel ranks reserves on each; None for nothing.

    The default exchange (``allgather_reducescatter``) uses NCCL and has nothing of its own. DeepEP
    reserves a buffer for NVLink, and one for RDMA: of the same size between nodes (high
    throughput), or two sets of send and receive buffers for every expert (low latency).

    Source: vLLM 0.33 ``distributed/device_communicators/all2all.py``, ``envs.py``
    (VLLM_DEEPEP_BUFFER_SIZE_MB); DeepEP ``csrc/config.hpp`` ``LowLatencyLayout``.
    """
    args, experts = rank.setup.args, rank.shapes.experts
    if experts is None or not args.enable_expert_parallel or args.data_parallel_size < 2:
        return None
    backend = args.all2all_backend
    if backend == "deepep_high_throughput":
        size = _BUFFER * (1 if rank.tp * args.data_parallel_size <= _NODE else 2)
    elif backend == "deepep_low_latency":
        size = _BUFFER + _low_latency(rank.tokens, rank.hidden, experts.count)
    elif backend in _OVER_NCCL:
        return None
    else:
        return Outside(0, _BUFFER, f"; without the buffers of {backend}, which nobody measured")
    return Outside(size, size // 8, f"; and DeepEP's buffers, derived ({backend})")


def _low_latency(tokens: int, hidden: int, experts: int) -> int:
    """Send and receive buffers, each twice."""
    scales = hidden // 128
    dispatched = _HEADER + max(2 * hidden, hidden + 4 * scales)
    combined = 4 * scales + 2 * hidden
    send = max(tokens * dispatched, experts * tokens * combined)
    receive = experts * tokens * max(dispatched, combined)
    return 2 * (send + receive)
