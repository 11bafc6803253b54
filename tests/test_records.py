"""The planner's records behave as the dataclasses that type checkers take them for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from vllm_kv_planner import records

STANDARD = SimpleNamespace(
    dataclass=dataclasses.dataclass,
    field=dataclasses.field,
    fields=dataclasses.fields,
    replace=dataclasses.replace,
    is_dataclass=dataclasses.is_dataclass,
)


def classes(kit: Any) -> SimpleNamespace:
    """The same classes, made with one kit or the other."""

    @kit.dataclass(frozen=True, kw_only=True)
    class Base:
        kind: ClassVar[str] = "base"
        size: int
        tags: list[str] = kit.field(default_factory=list, hash=False)

        @cached_property
        def double(self) -> int:
            return 2 * self.size

    @kit.dataclass(frozen=True, kw_only=True)
    class Child(Base):
        size: int = 3
        secret: str = kit.field(default="x", repr=False)

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("negative")

    @kit.dataclass(frozen=True)
    class Pair:
        left: int
        right: int = 2

    @kit.dataclass
    class Open:
        value: int = 0

    @kit.dataclass(frozen=True, eq=False)
    class Same:
        value: int = 0

    return SimpleNamespace(Base=Base, Child=Child, Pair=Pair, Open=Open, Same=Same)


KITS = [pytest.param(classes(kit), id=name) for name, kit in (("ours", records), ("std", STANDARD))]


@pytest.mark.parametrize("made", KITS)
def test_constructors(made: Any) -> None:
    assert made.Pair(1) == made.Pair(1, 2) == made.Pair(left=1, right=2)
    assert made.Child().size == 3
    assert made.Base(size=1).tags == [] and made.Base(size=1).tags is not made.Base(size=1).tags
    for wrong in (
        lambda: made.Base(1),
        made.Base,
        lambda: made.Base(size=1, other=2),
        lambda: made.Pair(1, 2, 3),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="negative"):
        made.Child(size=-1)


@pytest.mark.parametrize("made", KITS)
def test_comparison_and_hash(made: Any) -> None:
    assert made.Base(size=1) != made.Child(size=1)
    assert made.Child(size=1) != made.Child(size=1, secret="y")
    assert hash(made.Child(size=1, tags=["a"])) == hash(made.Child(size=1, tags=["b"]))
    assert hash(made.Pair(1)) == hash(made.Pair(1))
    assert made.Open(1) == made.Open(1)
    with pytest.raises(TypeError):
        hash(made.Open(1))
    assert made.Same(1) != made.Same(1)
    assert len({made.Same(1), made.Same(1)}) == 2


@pytest.mark.parametrize("made", KITS)
def test_frozen(made: Any) -> None:
    record = made.Child()
    for spoil in (
        lambda: setattr(record, "size", 4),
        lambda: delattr(record, "size"),
    ):
        with pytest.raises(AttributeError):
            spoil()
    assert record.double == 6
    assert record.kind == "base"
    opened = made.Open()
    opened.value = 5
    assert opened.value == 5


@pytest.mark.parametrize("made", KITS)
def test_repr(made: Any) -> None:
    assert repr(made.Pair(1)).endswith("Pair(left=1, right=2)")
    assert repr(made.Child()).endswith("Child(size=3, tags=[])")


@pytest.mark.parametrize(
    ("made", "kit"), [(KITS[0].values[0], records), (KITS[1].values[0], STANDARD)]
)
def test_replace_and_fields(made: Any, kit: Any) -> None:
    changed = kit.replace(made.Child(), size=9)
    assert (changed.size, changed.secret) == (9, "x")
    with pytest.raises(TypeError):
        kit.replace(made.Child(), other=1)
    assert [field.name for field in kit.fields(made.Child())] == ["size", "tags", "secret"]
    assert kit.is_dataclass(made.Child()) and not kit.is_dataclass(3)


@pytest.mark.parametrize("take", [dataclasses.asdict, dataclasses.astuple, dataclasses.replace])
def test_the_standard_functions_take_a_record(take: Callable[[Any], Any]) -> None:
    ours, standard = (classes(kit).Child(size=5, tags=["a"]) for kit in (records, STANDARD))
    assert repr(take(ours)).split(".")[-1] == repr(take(standard)).split(".")[-1]
