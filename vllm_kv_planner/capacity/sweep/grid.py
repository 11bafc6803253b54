"""What a sweep plans: the product of its axes, numbered and never held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...records import dataclass

Setup = Mapping[str, Any]
"""One row's names and values: ``model``, ``gpu``, ``vllm_version`` and vLLM's own flags."""

MOST_ROWS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Set-ups by number; the last axis changes fastest.

    Attributes:
        axes: Each axis is a list of groups of values. ``max_model_len=8K,32K`` has groups of one
            name; explicit set-ups are one axis whose groups hold several.
    """

    axes: tuple[tuple[Setup, ...], ...]

    def __len__(self) -> int:
        size = 1
        for axis in self.axes:
            size *= len(axis)
        return size

    def __getitem__(self, number: int) -> Setup:
        chosen = []
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis))
            chosen.append(axis[at])
        return {name: value for group in reversed(chosen) for name, value in group.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that some set-up gives a value, in order of the axes."""
        return tuple(dict.fromkeys(name for axis in self.axes for each in axis for name in each))

    def values(self, name: str) -> list[Any]:
        """The different values of one name; of a list's kind where no set-up gives it one."""
        return distinct([each[name] for axis in self.axes for each in axis if name in each])


def make_grid(axes: Mapping[str, Sequence[Any]], setups: Sequence[Setup] = ()) -> Grid:
    """The product of the axes, and of them all with each of ``setups``.

    Args:
        axes: Values by name, in the order in which they shall vary, slowest first.
        setups: Groups of values that go together, each tried with all the axes.

    Raises:
        InputError: An empty axis, a name both an axis and in a set-up, too many rows.
    """
    made = []
    for name, values in axes.items():
        if not values:
            raise InputError(f"{name}: an axis without a value")
        made.append(tuple({name: value} for value in distinct(values)))
    for number, setup in enumerate(setups):
        both = next((name for name in setup if name in axes), None)
        if both is not None:
            raise InputError(f"setups[{number}] names {both}, which is given for all rows already")
    if setups:
        made.append(tuple(distinct(setups)))
    size = 1
    for axis in made:
        size *= len(axis)
    if size > MOST_ROWS:
        raise InputError(f"{size:,} set-ups; a sweep has at most {MOST_ROWS:,}")
    return Grid(axes=tuple(made))


def distinct(values: Sequence[Any]) -> list[Any]:
    """The values without repetitions, in order; ``1`` and ``True`` and ``1.0`` differ."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(repr(_sorted(value)), value)
    return list(found.values())


def _sorted(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, Mapping) else value
