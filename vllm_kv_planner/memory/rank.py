"""What one rank of an engine runs, as far as its memory depends on it: steps and widths."""

from __future__ import annotations

from functools import cached_property

from ..engine_args.setup import EngineSetup
from ..records import dataclass
from .phase import round_up
from .versions import VersionRules
from .widths import LayerShapes, layer_shapes

MIB = 1 << 20
_DTYPE_BYTES = {"float32": 4, "float64": 8}
_VOCAB_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE of vocab_parallel_embedding.py


@dataclass(frozen=True, kw_only=True, eq=False)
class Rank:
    """One rank: every tensor-parallel rank of a pipeline stage is alike."""

    setup: EngineSetup
    rules: VersionRules
    stage: int = 0

    @property
    def tp(self) -> int:
        """Ranks a layer is divided among."""
        return self.setup.args.tensor_parallel_size

    @property
    def is_first(self) -> bool:
        """Embeds tokens and runs the multimodal encoder."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Computes logits and samples."""
        return self.stage == self.setup.args.pipeline_parallel_size - 1

    @cached_property
    def uses_v2(self) -> bool:
        """Model Runner V2."""
        setup = self.setup
        return self.rules.uses_v2(
            setup.resolved.runner.uses_v2,
            setup.model.architecture,
            is_moe=setup.model.is_moe,
            is_hybrid=setup.model.is_hybrid,
            quantized=setup.facts.quantization is not None,
            generates=setup.model.runner_type == "generate",
        )

    @property
    def tokens(self) -> int:
        """Tokens of the profiled forward pass.

        Model Runner V2 leaves room for the token more that an independent draft model takes of
        every request (``_dummy_run``).
        """
        batch, draft = self.setup.resolved.batch, self.setup.draft
        tokens = batch.max_num_batched_tokens
        if draft is None or draft.method != "draft_model" or not self.uses_v2:
            return tokens
        return max(tokens - min(tokens, batch.max_num_seqs), 1)

    @property
    def rows(self) -> int:
        """Requests sampled in the profile: ``_dummy_run`` makes min(tokens, max_num_seqs)."""
        batch, speculative = self.setup.resolved.batch, self.setup.resolved.speculative
        tokens = batch.max_num_batched_tokens
        if speculative is not None and speculative.method == "dflash" and self.uses_v2:
            tokens //= speculative.num_lookahead_tokens  # it asks so many of every request
        return min(tokens, batch.max_num_seqs)

    @property
    def vocab(self) -> int:
        """Columns of the logits after the padding is cut off."""
        return self.setup.model.vocab_size

    @property
    def padded_vocab(self) -> int:
        """Columns the output layer computes, all ranks together."""
        return round_up(self.vocab, _VOCAB_PADDING)

    @cached_property
    def element(self) -> int:
        """Bytes of an activation."""
        return _DTYPE_BYTES.get(self.setup.resolved.dtype.name, 2)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.setup.model.hidden_size

    @cached_property
    def shapes(self) -> LayerShapes:
        """The widest decoder layer's widths on this rank."""
        return layer_shapes(self.setup)

    @property
    def blas_workspace(self) -> int:
        """cuBLAS's workspace, which PyTorch allocates at the first matrix product.

        Source: PyTorch ``aten/src/ATen/cuda/CublasHandlePool.cpp`` ``parseChosenWorkspaceSize``:
        32 MiB on Hopper and data-centre Blackwell, else 8 MiB and 128 KiB. From vLLM 0.33 on
        it exists before the first snapshot and is not counted.
        """
        if self.rules.blas_workspace_before_profile:
            return 0
        large = self.setup.gpu.cuda_capability[0] in (9, 10)
        return 32 * MIB if large else 8 * MIB + 128 * 1024

    @property
    def intermediate_tensors(self) -> int:
        """Hidden states and residual that a later pipeline stage keeps room for.

        Model Runner V1 makes them during the profile run; V2 with the model, before it.
        """
        if self.is_first:
            return 0
        return 2 * self.tokens * self.hidden * self.element
