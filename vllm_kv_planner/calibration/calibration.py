"""Records of starts at work: rows before the bundled measurements, weights and totals as seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import sqrt
from statistics import median

from ..engine_args.setup import EngineSetup
from ..gpu.catalogue import GIVEN
from ..gpu.gpu import GPU
from ..memory.overheads import (
    GraphRatio,
    Measured,
    Overheads,
    SeenActivation,
    find_row,
    known_overheads,
)
from ..memory.rank_budget import Weights
from ..records import dataclass, replace
from ..version import VLLM_MINOR
from .start_record import StartRecord, minor_version, weights_key

MIB = 1 << 20
PRINTED = 6 * MIB
"""How far a figure with two decimals of a GiB may be off."""
LEAST_SPREAD = 20 * MIB
ALIKE_STARTS = 100 * MIB
"""What equal starts of one engine differ by: 0.07 GiB on an RTX 3090 (0.17), 0.1 on a 16 GB slice
(0.29). Nearer than this a start does not mend the bundled figure, it only adds its own chance."""
ALIKE = (((0, 10), (0, 17)), ((0, 18), VLLM_MINOR))
"""Versions whose memory outside PyTorch is carried over, and counted alike."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Every record of the file.

    Attributes:
        records: The oldest first.
        where: The file's name, as told in provenance.
        notes: What in the file cannot be used.
    """

    records: tuple[StartRecord, ...]
    where: str = "calibration"
    notes: tuple[str, ...] = ()

    def device(self, gpu: GPU) -> GPU:
        """The GPU with the total that starts on it printed, where they agree on the device."""
        totals = [each.total_bytes for each in self._of(gpu.short_name) if each.total_bytes]
        known = gpu.total_memory_bytes
        if gpu.sources.get("torch") == GIVEN:
            return gpu
        near = [total for total in totals if abs(total - known) <= known * 0.03]
        if not near:
            return gpu
        # two decimals of a GiB: the catalogue's exact figure stays if it is the same
        total = int(median(near))
        if abs(total - known) <= PRINTED and not gpu.total_memory_is_estimated:
            return gpu
        sources = {**gpu.sources, "torch": self._told(self._of(gpu.short_name))}
        return replace(gpu, torch_total_bytes=total, sources=sources)

    def overheads(self, version: str) -> Overheads:
        """The bundled measurements behind what the records say, for a version of vLLM."""
        known = known_overheads()
        wanted = minor_version(version)
        outside = [
            *self._outside_rows(lambda minor: minor == wanted, wanted, carried=False),
            *self._outside_rows(lambda minor: _alike(minor, wanted), wanted, carried=True),
        ]
        return Overheads(
            non_torch=(*outside, *known.non_torch),
            warm_up=known.warm_up,
            unexplained=known.unexplained,
            at_start=(*self._start_rows(), *known.at_start),
            graphs=replace(known.graphs, ratios=tuple(self._ratios(wanted))),
            activation=tuple(self._peaks(wanted)),
        )

    def weights(self, setup: EngineSetup, version: str) -> Weights | None:
        """Weights of an engine that has been seen, as it said them; None where it has not."""
        if setup.args.pipeline_parallel_size > 1:
            return None
        key = weights_key(setup.args.model, setup.resolved.dtype.name, setup.args)
        wanted = minor_version(version)
        found = [
            each
            for each in self._of(setup.gpu.short_name)
            if each.weights_bytes and each.weights_key == key and each.minor == wanted
        ]
        if not found:
            return None
        return Weights(
            size_bytes=found[-1].weights_bytes or 0,
            uncertainty_bytes=PRINTED,
            how=f"calibrated, {self._told(found[-1:])}",
        )

    def _of(self, device: str) -> list[StartRecord]:
        return [each for each in self.records if each.device == device]

    def _told(self, records: Iterable[StartRecord]) -> str:
        found = list(records)
        last = found[-1]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return (
            f"{last.source}{more} (vLLM {last.vllm_version}, {last.model}, learned {last.learned}, "
            f"in {self.where})"
        )

    def _outside_rows(
        self, speaks: Callable[[tuple[int, int]], bool], wanted: tuple[int, int], *, carried: bool
    ) -> Iterator[Measured]:
        groups: dict[tuple[str, int, bool], list[StartRecord]] = {}
        for each in self.records:
            if each.outside_bytes is not None and speaks(each.minor):
                pipeline = each.tensor_parallel_size == 1 and each.pipeline_parallel_size > 1
                groups.setdefault((each.device, each.tensor_parallel_size, pipeline), []).append(
                    each
                )
        # a slice before the whole device, whose name its own begins with
        for (device, ranks, pipeline), records in sorted(groups.items(), reverse=True):
            sizes = [each.outside_bytes or 0 for each in records]
            middle = int(median(sizes))
            known = find_row(known_overheads().non_torch, wanted, device, ranks, pipeline)
            chance = ALIKE_STARTS / sqrt(len(sizes))
            if known is not None and abs(middle - known.size_bytes) <= chance:
                continue  # it says no more than the bundled figure does
            spread = max(
                LEAST_SPREAD,
                *(abs(size - middle) for size in sizes),
                *(each.outside_spread_bytes for each in records),
            )
            yield Measured(
                first=wanted,
                last=wanted,
                device=device,
                ranks=(ranks, ranks),
                pipeline=pipeline,
                size_bytes=max(0, middle),
                spread_bytes=spread + (max(0, middle) // 2 if carried else 0),
                source=f"calibrated, {self._told(records)}",
            )

    def _start_rows(self) -> Iterator[Measured]:
        groups: dict[tuple[str, int], list[StartRecord]] = {}
        for each in self.records:
            if each.taken_at_start_bytes is not None:
                world = each.tensor_parallel_size * each.pipeline_parallel_size
                groups.setdefault((each.device, world), []).append(each)
        for (device, world), records in sorted(groups.items(), reverse=True):
            sizes = [each.taken_at_start_bytes or 0 for each in records]
            middle = int(median(sizes))
            yield Measured(
                first=(0, 0),
                last=(9, 99),
                device=device,
                ranks=(world, world),
                pipeline=False,
                size_bytes=middle,
                spread_bytes=max(LEAST_SPREAD, *(abs(size - middle) for size in sizes)),
                source=f"calibrated, {self._told(records)}",
            )

    def _peaks(self, wanted: tuple[int, int]) -> Iterator[SeenActivation]:
        """The newest first."""
        for each in reversed(self.records):
            if each.activation_bytes and each.activation_key and each.minor == wanted:
                yield SeenActivation(
                    engine=each.activation_key,
                    size_bytes=each.activation_bytes,
                    spread_bytes=2 * PRINTED,
                    source=f"calibrated, {self._told([each])}",
                )

    def _ratios(self, wanted: tuple[int, int]) -> Iterator[GraphRatio]:
        for each in reversed(self.records):
            estimate, predicted = each.graph_estimate_bytes, each.graph_predicted_bytes
            if estimate and predicted and each.minor == wanted:
                yield GraphRatio(
                    device=each.device,
                    backend=each.attention_backend,
                    model=each.model,
                    ratio=estimate / predicted,
                    source=f"calibrated, {self._told([each])}",
                )


def _alike(minor: tuple[int, int], wanted: tuple[int, int]) -> bool:
    return any(first <= minor <= last and first <= wanted <= last for first, last in ALIKE)
