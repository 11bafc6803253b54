"""Room for LoRA adapters: two narrow matrices beside every layer that an adapter may change.

Source: vLLM 0.33 ``lora/layers/`` (``create_lora_weights`` of each class), ``lora/utils.py``
``get_supported_lora_modules``, ``lora/model_manager.py`` ``_create_lora_modules``. All slots are
allocated when the model is loaded, so they count in "Model loading took".
"""

from __future__ import annotations

from collections.abc import Iterator

from ...engine_args.engine_args import EngineArgs
from ...records import dataclass
from .experts import RoutedExperts
from .modules import Block, Linear, LMHead, Module, QKVLinear, TokenEmbedding
from .rank import Place, Rank, Tensor


@dataclass(frozen=True, kw_only=True)
class LoRASlots:
    """What ``--enable-lora`` asks for.

    Attributes:
        slots: ``--max-loras``.
        rank: ``--max-lora-rank``.
        dtype: ``--lora-dtype``, the engine's by default.
        fully_sharded: ``--fully-sharded-loras``.
        targets: ``--lora-target-modules``; None for every layer.
        embeddings: The model's class takes adapters of its embedding and head.
        towers: ``--enable-tower-connector-lora``.
    """

    slots: int
    rank: int
    dtype: str
    fully_sharded: bool = False
    targets: tuple[str, ...] | None = None
    embeddings: bool = False
    towers: bool = False

    def takes(self, name: str) -> bool:
        """Whether a layer of this name gets slots."""
        return self.targets is None or name in self.targets


def lora_slots(args: EngineArgs, dtype: str, *, embeddings: bool) -> LoRASlots | None:
    """The slots that flags ask for; None without ``--enable-lora``."""
    if not args.enable_lora:
        return None
    return LoRASlots(
        slots=args.max_loras,
        rank=args.max_lora_rank,
        dtype=dtype if args.lora_dtype == "auto" else args.lora_dtype,
        fully_sharded=args.fully_sharded_loras,
        targets=args.lora_target_modules,
        embeddings=embeddings,
        towers=args.enable_tower_connector_lora,
    )


def lora_tensors(module: Module, rank: Rank, slots: LoRASlots) -> Iterator[Tensor]:
    """The slots of a module and all below it."""
    yield from _walk(module, Place(rank, part="LoRA"), slots)


def _walk(module: Module, place: Place, slots: LoRASlots) -> Iterator[Tensor]:
    if isinstance(module, Block):
        if module.part in ("vision", "audio") and not slots.towers:
            return
        inside = Place(place.rank, place.at(module.name).prefix, "LoRA")
        for child in module.children:
            yield from _walk(child, inside, slots)
    elif isinstance(module, (Linear, QKVLinear)):
        yield from _linear(module, place, slots)
    elif isinstance(module, RoutedExperts):
        yield from _experts(module, place, slots)
    elif slots.embeddings and isinstance(module, TokenEmbedding):
        yield from _embedding(module, place, slots)
    elif slots.embeddings and isinstance(module, LMHead):
        yield from _head(module, place, slots)


def _linear(module: Linear | QKVLinear, place: Place, slots: LoRASlots) -> Iterator[Tensor]:
    if not slots.takes(module.name):
        return
    shape = module.shape(place)
    inside = place.at(module.name)
    size = place.rank.tensor_parallel_size if slots.fully_sharded else 1
    kind = module.shard if isinstance(module, Linear) else "column"
    narrow = slots.rank // size if kind == "column" else slots.rank
    for number, width in enumerate(shape.outputs):
        wide = width // size if kind == "row" else width
        down = (slots.slots, 1, narrow, shape.inputs)
        up = (slots.slots, 1, wide, slots.rank)
        yield inside.tensor(f"lora_a_stacked.{number}", down, slots.dtype)
        yield inside.tensor(f"lora_b_stacked.{number}", up, slots.dtype)


def _experts(module: RoutedExperts, place: Place, slots: LoRASlots) -> Iterator[Tensor]:
    if not slots.takes(module.name):
        return
    shape = module.shape(place)
    inside = place.at(module.name)
    size = place.rank.experts_cut_by if slots.fully_sharded else 1
    count, narrow = shape.num_experts, slots.rank // size
    first = (
        (slots.slots, count, narrow, shape.hidden),
        (
            slots.slots,
            count,
            shape.intermediate,
            slots.rank,
        ),
    )
    second = (
        (slots.slots, count, slots.rank, shape.intermediate),
        (
            slots.slots,
            count,
            shape.hidden // size,
            slots.rank,
        ),
    )
    for number in range(shape.shards):
        for name, dimensions in zip("ab", first, strict=True):
            yield inside.tensor(f"w13_lora_{name}_stacked.{number}", dimensions, slots.dtype)
    for name, dimensions in zip("ab", second, strict=True):
        yield inside.tensor(f"w2_lora_{name}_stacked", dimensions, slots.dtype)


def _embedding(module: TokenEmbedding, place: Place, slots: LoRASlots) -> Iterator[Tensor]:
    if slots.takes(module.name):
        inside = place.at(module.name)
        down = (slots.slots, module.vocab_size, slots.rank)
        yield inside.tensor("lora_a_stacked", down, slots.dtype)
        yield inside.tensor(
            "lora_b_stacked", (slots.slots, 1, module.width, slots.rank), slots.dtype
        )


def _head(module: LMHead, place: Place, slots: LoRASlots) -> Iterator[Tensor]:
    if slots.takes(module.name):
        inside = place.at(module.name)
        up = (slots.slots, 1, module.vocab_size, slots.rank)
        yield inside.tensor(
            "lora_a_stacked", (slots.slots, 1, slots.rank, module.width), slots.dtype
        )
        yield inside.tensor("lora_b_stacked", up, slots.dtype)
