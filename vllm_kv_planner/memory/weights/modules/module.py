"""The tree: anything that yields tensors, and the block that holds such things under a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ....records import dataclass
from ..rank import Place
from ..tensor import Tensor


class Module(Protocol):
    """A layer of vLLM, or a tree of them."""

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """What it registers on this rank; ``place`` is its parent's."""
        ...


@dataclass(frozen=True)
class Block:
    """Modules under one name, such as ``self_attn``.

    Attributes:
        name: Empty where the modules lie directly in the parent.
        children: In vLLM's order.
        part: Name of the part that the children belong to, where it changes here.
        is_tower: Shared by as many GPUs as ``--mm-encoder-tp-mode`` says.
        heads: Of a tower that every GPU holds whole where its heads cannot be divided.
    """

    name: str
    children: tuple[Module, ...]
    part: str | None = None
    is_tower: bool = False
    heads: int = 0

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The children's."""
        inside = place.at(self.name, self.part)
        if self.is_tower:
            inside = Place(inside.rank.for_tower(self.heads), inside.prefix, inside.part)
        for child in self.children:
            yield from child.tensors(inside)
