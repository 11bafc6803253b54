"""What starts of other sources left between our KV memory and theirs: the band's main part.

The rows stand in ``overheads.json`` under ``unexplained``. Each is the 90th percentile over starts
that had no part in the figures they were held against, every source weighing the same;
``benchmarks/accuracy.py`` makes them anew without the source at hand, and prints how many of its
starts they hold. A figure's own spread counts where it is larger.
"""

from __future__ import annotations

from typing import Any

from ..records import dataclass
from .rank import Rank

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One row.

    Attributes:
        first, last: Minor versions of vLLM it holds for.
        device: A device's short name or its beginning; None: any device.
        platform: cuda, rocm or xpu; None: any.
        ranks: GPUs of the engine, from and to.
        plain: For dense text models without states and drafts (True), for others (False), for all
            (None).
        quantized: For quantised checkpoints (True), for others (False), for all (None).
        size_bytes: The figure itself, or
        share: of the GPU's memory, where it grows with the GPU.
        source: Which starts.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    device: str | None
    platform: str | None
    ranks: tuple[int, int]
    plain: bool | None
    quantized: bool | None
    size_bytes: int
    share: float
    source: str

    def fits(self, rank: Rank) -> bool:
        """Whether the row speaks of this engine."""
        setup, version = rank.setup, rank.rules.version
        return (
            self.first <= version <= self.last
            and (self.device is None or setup.gpu.short_name.startswith(self.device))
            and self.platform in (None, setup.gpu.platform)
            and self.ranks[0] <= setup.args.num_gpus <= self.ranks[1]
            and self.plain in (None, is_plain(rank))
            and self.quantized in (None, setup.facts.quantization is not None)
        )

    def bytes_on(self, rank: Rank) -> int:
        """Bytes on the engine's GPU."""
        return self.size_bytes + int(self.share * rank.setup.gpu.total_memory_bytes)


def is_plain(rank: Rank) -> bool:
    """A dense decoder of text: the profile's phases are known to the last tensor."""
    setup = rank.setup
    model, encodes = setup.model, setup.model.is_multimodal and not setup.args.language_model_only
    return not (model.is_moe or model.is_hybrid or encodes or setup.resolved.speculative)


def find_doubt(rank: Rank, rows: tuple[Doubt, ...]) -> Doubt | None:
    """The first row that fits; narrower ones stand first."""
    return next((row for row in rows if row.fits(rank)), None)


def doubt_rows(rows: list[dict[str, Any]]) -> tuple[Doubt, ...]:
    """The rows of the file."""
    return tuple(
        Doubt(
            first=versions_of(row)[0],
            last=versions_of(row)[1],
            device=row.get("device"),
            platform=row.get("platform"),
            ranks=tuple(row.get("ranks", (1, 1 << 20))),
            plain=row.get("plain"),
            quantized=row.get("quantized"),
            size_bytes=int(row.get("mib", 0) * MIB),
            share=float(row.get("share", 0)),
            source=row["source"],
        )
        for row in rows
    )


def versions_of(row: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and the last minor version that a row of the file holds for; all by default."""
    first, last = row.get("vllm", ("0.0", "9.99"))
    return _minor(first), _minor(last)


def _minor(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
