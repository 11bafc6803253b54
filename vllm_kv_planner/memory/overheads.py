"""``overheads.json``: what was measured because it cannot be derived."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..files.json_file import read_json
from ..records import dataclass

MIB = 1 << 20
_CARRIED = 0.5
"""Of a figure of another device, how much is added to its own spread."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row; bytes.

    Attributes:
        first, last: Minor versions of vLLM it holds for.
        device: A device's short name or its beginning; None: any device.
        ranks: Tensor-parallel sizes, from and to.
        pipeline: For stages of one GPU each.
        size_bytes: What was measured.
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
        size_bytes: The peak.
        spread_bytes: What its digits leave open.
        source: Which start.
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
        """The device's and backend's ratio, of this model rather than of another."""
        alike = [each for each in self.ratios if (each.device, each.backend) == (device, backend)]
        own = [each for each in alike if each.model == model]
        return next(iter(own or alike), None)


@dataclass(frozen=True, kw_only=True)
class Overheads:
    """The whole file; ``activation``: what starts on this machine printed."""

    non_torch: tuple[Measured, ...]
    warm_up: tuple[Measured, ...]
    unexplained: tuple[Measured, ...]
    at_start: tuple[Measured, ...]
    graphs: GraphCosts
    activation: tuple[SeenActivation, ...] = ()


@lru_cache(maxsize=1)
def known_overheads() -> Overheads:
    """The bundled measurements."""
    return read_overheads(read_json(__file__, "overheads.json"))


def read_overheads(found: dict[str, Any]) -> Overheads:
    """Measurements from the file's object."""
    graphs = found["cuda_graphs"]
    return Overheads(
        non_torch=_rows(found["non_torch"]),
        warm_up=_rows(found["warm_up"]),
        unexplained=_rows(found["unexplained"]),
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
    return tuple(_row(row) for row in rows)


def _row(row: dict[str, Any]) -> Measured:
    first, last = row.get("vllm", ("0.0", "9.99"))
    low, high = row.get("ranks", (1, 1 << 20))
    return Measured(
        first=_version(first),
        last=_version(last),
        device=row.get("device"),
        ranks=(low, high),
        pipeline=bool(row.get("pipeline", False)),
        size_bytes=_bytes(row["mib"]),
        spread_bytes=_bytes(row.get("spread_mib", 0)),
        source=row["source"],
    )


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _bytes(mib: float) -> int:
    return int(mib * MIB)
