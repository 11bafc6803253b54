"""The whole model as a tree, and which of it each pipeline stage builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....records import dataclass
from ..modules import Module
from ..rank import Place, Rank
from ..tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class WeightTree:
    """A model's modules.

    Attributes:
        embedding: Token embeddings: first stage, and the last one too where the head is tied.
        first: What else only the first stage builds: towers, position tables.
        layers: Decoder layers, one module each.
        last: Final norm and head: last stage.
        head: The output head; None where it is the embedding.
        everywhere: Built by every stage: buffers.
        tied: The head is the embedding.
        on_every_stage: ``embedding``, ``last`` and ``head`` where the class does not ask which
            stage it is on.
    """

    embedding: tuple[Module, ...]
    layers: tuple[Module, ...]
    last: tuple[Module, ...] = ()
    head: Module | None = None
    first: tuple[Module, ...] = ()
    everywhere: tuple[Module, ...] = ()
    tied: bool = False
    on_every_stage: frozenset[str] = frozenset()

    def stage_modules(self, layers: range, *, is_first: bool, is_last: bool) -> list[Module]:
        """What the stage with these layers builds."""
        every = self.on_every_stage
        chosen: list[Module] = [*self.everywhere]
        if is_first:
            chosen += self.first
        if is_first or (is_last and self.tied) or "embedding" in every:
            chosen += self.embedding
        chosen += self.layers[layers.start : layers.stop]
        if is_last or "last" in every:
            chosen += self.last
        if self.head is not None and (is_last or "head" in every):
            chosen.append(self.head)
        return chosen

    def tensors(self, modules: Sequence[Module], rank: Rank) -> Iterator[Tensor]:
        """What a rank registers for these modules, each shared tensor once."""
        seen: set[object] = set()
        root = Place(rank)
        for module in modules:
            for tensor in module.tensors(root):
                if tensor.shared is not None:
                    if tensor.shared in seen:
                        continue
                    seen.add(tensor.shared)
                yield tensor
