"""Room for LoRA adapters: two narrow matrices beside every layer that an adapter may change.

Source: vLLM 0.33 ``lora/layers/`` (``create_lora_weights`` of each class), ``lora/utils.py``
``get_supported_lora_modules``, ``lora/model_manager.py`` ``_create_lora_modules``. All slots are
allocated when the model is loaded, so they count in "Model loading took".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...engine_args.engine_args import EngineArgs
from ...records import replace
from .experts import RoutedExperts
from .modules import Block, Linear, LMHead, Module, TokenEmbedding
from .rank import Place, Rank, Tensor


class LoRASlots:
    """What ``--enable-lora`` asks for on a rank: one slot for each of ``--max-loras``."""

    def __init__(self, args: EngineArgs, rank: Rank, *, takes_embeddings: bool) -> None:
        """``takes_embeddings``: the model's class takes adapters of its embedding and head."""
        self.slots, self.width = args.max_loras, args.max_lora_rank
        self.dtype = rank.dtype if args.lora_dtype == "auto" else args.lora_dtype
        self.sharded = args.fully_sharded_loras
        self.targets = args.lora_target_modules
        self.towers = args.enable_tower_connector_lora
        self.takes_embeddings = takes_embeddings
        self.rank = rank

    def tensors(self, module: Module) -> Iterator[Tensor]:
        """The slots of a module and all below it."""
        return self._walk(module, Place(self.rank, part="LoRA"))

    def of_tied_head(self, embedding: Sequence[Module]) -> Iterator[Tensor]:
        """What an output head that is the embedding has of its own: slots of both kinds.

        vLLM meets it under a second name, and gives it an embedding's slots once more, and the
        logits' as any head's. 64 adapters of Qwen3-4B printed just that (0.27.1).
        """
        place = Place(self.rank, part="LoRA")
        for each in embedding:
            for table in each.children if isinstance(each, Block) else (each,):
                if not isinstance(table, TokenEmbedding):
                    continue
                yield from self._walk(replace(table, name="lm_head"), place)
                yield from self._walk(LMHead("lm_head", table.vocab_size, table.width), place)

    def _walk(self, module: Module, place: Place) -> Iterator[Tensor]:
        if isinstance(module, Block):
            if module.part in ("vision", "audio") and not self.towers:
                return
            inside = place.at(module.name)
            for child in module.children:
                yield from self._walk(child, inside)
            return
        pairs: Iterable[tuple[str, tuple[int, ...]]] = ()
        if isinstance(module, Linear) and module.takes_lora:
            pairs = self._linear(module)
        elif isinstance(module, RoutedExperts):
            pairs = self._experts(module)
        elif isinstance(module, (TokenEmbedding, LMHead)) and self.takes_embeddings:
            pairs = self._table(module)
        else:
            return
        if self.targets is None or module.name in self.targets:
            inside = place.at(module.name)
            for name, shape in pairs:
                yield inside.tensor(name, (self.slots, *shape), self.dtype)

    def _linear(self, module: Linear) -> Iterator[tuple[str, tuple[int, ...]]]:
        shape = module.shape(self.rank)
        size = self.rank.tensor_parallel_size if self.sharded else 1
        narrow = self.width // size if module.shard == "column" else self.width
        for number, rows in enumerate(shape.outputs):
            wide = rows // size if module.shard == "row" else rows
            yield f"lora_a_stacked.{number}", (1, narrow, shape.inputs)
            yield f"lora_b_stacked.{number}", (1, wide, self.width)

    def _experts(self, module: RoutedExperts) -> Iterator[tuple[str, tuple[int, ...]]]:
        shape = module.shape(self.rank)
        size = self.rank.experts_cut_by if self.sharded else 1
        count, narrow, inner = shape.num_experts, self.width // size, shape.intermediate
        for number in range(shape.shards):
            yield f"w13_lora_a_stacked.{number}", (count, narrow, shape.hidden)
            yield f"w13_lora_b_stacked.{number}", (count, inner, self.width)
        yield "w2_lora_a_stacked", (count, self.width, inner)
        yield "w2_lora_b_stacked", (count, shape.hidden // size, self.width)

    def _table(self, module: TokenEmbedding | LMHead) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows, width = module.vocab_size, module.width
        if isinstance(module, LMHead):
            yield "lora_a_stacked", (1, self.width, width)
            yield "lora_b_stacked", (1, rows, self.width)
        else:
            yield "lora_a_stacked", (rows, self.width)
            yield "lora_b_stacked", (1, width, self.width)
