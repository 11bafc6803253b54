"""Flags of vLLM that matter to the schedule only, so that no plan knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, UnknownNameError
from ..records import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class SchedulerFlags:
    """vLLM's names and defaults (0.33 ``vllm/config/scheduler.py``), checked when made.

    Attributes:
        scheduling_policy: ``fcfs`` or ``priority``.
        watermark: Share of all blocks kept free when a request is admitted, from 0 to less than 1.
        scheduler_reserve_full_isl: Whether a request is admitted only if all of its prompt fits.
        long_prefill_token_threshold_adaptive: Whether that threshold is at least an equal share.
        prefill_schedule_interval: Steps between those that compute prompts, from 1.
    """

    scheduling_policy: str = "fcfs"
    watermark: float = 0.0
    scheduler_reserve_full_isl: bool = True
    long_prefill_token_threshold_adaptive: bool = False
    prefill_schedule_interval: int = 1

    def __post_init__(self) -> None:
        if self.scheduling_policy not in ("fcfs", "priority"):
            raise _wrong("scheduling_policy", self.scheduling_policy, "fcfs or priority")
        mark = self.watermark
        if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0 <= mark < 1:
            raise _wrong("watermark", mark, "a number from 0 to less than 1")
        for name in ("scheduler_reserve_full_isl", "long_prefill_token_threshold_adaptive"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false")
        interval = self.prefill_schedule_interval
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise _wrong("prefill_schedule_interval", interval, "a whole number, at least 1")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> SchedulerFlags:
        """The flags by name.

        Raises:
            InputError: A value that cannot be.
            UnknownNameError: A name that is none of these.
        """
        if given is not None and not isinstance(given, Mapping):
            raise _wrong("scheduler_flags", given, "a mapping of names to values")
        known = [each.name for each in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise UnknownNameError(
                    f"workload: scheduler flag {name}: one of {', '.join(known)}"
                )
        return cls(**(given or {}))


def _wrong(name: str, value: object, valid: str) -> InputError:
    from ..engine_args.value_types import shown

    return InputError(f"--{name.replace('_', '-')} {shown(value)}: {valid}")
