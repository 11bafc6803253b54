"""An attention backend on a certain GPU, in a certain engine, for a certain layer.

Source of the bytes of one token, counted with the model's own head size and KV heads, whatever
single layers have: vLLM 0.33 ``platforms/interface.py`` ``_align_hybrid_block_size`` and
``_align_heterogeneous_kv_block_size``.
"""

from __future__ import annotations

from math import lcm

from ...kv_cache.specs import AttentionSpec, FullAttentionSpec, MLAAttentionSpec
from ...model.layers.base import kv_cache_element_bytes
from ...records import dataclass, replace
from .declaration import (
    Capability,
    Declaration,
    EngineFacts,
    KernelBlocks,
    KernelQuestion,
    Layouts,
)
from .kv_dtypes import TURBOQUANT_BITS, turboquant, ultraquant


@dataclass(frozen=True, kw_only=True)
class AttentionBackend:
    """What decides sizes about a chosen backend.

    Attributes:
        name: vLLM's name of it.
        declaration: What it says of itself.
        capability: Compute capability of the GPU.
        facts: The engine it runs in.
        head_size: The layer's key width, in elements.
        head_size_v: The layer's value width; None like the key.
        kv_cache_dtype: The layer's KV cache dtype.
        use_rswa: Whether the model uses reference sliding window attention.
        attn_type: The layer's; cross-attention runs a subclass of its own.
    """

    name: str
    declaration: Declaration
    capability: Capability
    facts: EngineFacts
    head_size: int
    head_size_v: int | None = None
    kv_cache_dtype: str = "auto"
    use_rswa: bool = False
    attn_type: str = "decoder"

    @property
    def layouts(self) -> Layouts | None:
        """KV cache layouts it reads, best first; None takes any."""
        layouts = self.declaration.layouts
        return layouts(self.capability) if callable(layouts) else layouts

    def kernel_blocks(self, spec: AttentionSpec | None = None) -> KernelBlocks:
        """Blocks its kernels take: of the model as a whole, or of one layer's spec.

        Source: vLLM 0.33 ``get_supported_kernel_block_sizes``.
        """
        if spec is None:
            assumed = self.declaration.head_size_v
            question = KernelQuestion(
                capability=self.capability,
                head_size=self.facts.head_size,
                head_size_v=None if assumed is None else self.head_size_v or assumed,
                kv_cache_dtype=self.facts.kv_cache_dtype,
                facts=self.facts,
                use_rswa=self.use_rswa,
            )
        else:
            question = self.layer_question(
                spec.head_size, spec.head_size_v, spec.kv_cache_dtype, int(spec.tokens_per_state)
            )
        return self.answer(question)

    def layer_question(
        self, head_size: int, head_size_v: int, kv_cache_dtype: str, tokens_per_state: int
    ) -> KernelQuestion:
        """What vLLM asks about a layer's spec, out of the engine config's reach."""
        return KernelQuestion(
            capability=self.capability,
            head_size=head_size,
            head_size_v=head_size_v,
            kv_cache_dtype=kv_cache_dtype,
            facts=None,
            tokens_per_state=tokens_per_state,
        )

    def answer(self, question: KernelQuestion) -> KernelBlocks:
        """The declared blocks, or what the rule says."""
        blocks = self.declaration.blocks
        return blocks(question) if callable(blocks) else blocks

    def kernel_block_sizes(self) -> tuple[int, ...]:
        """The same as plain token counts, multiples by their base."""
        return tuple(block.tokens for block in self.kernel_blocks())

    def smallest_kernel_block(self) -> int:
        """Fewest tokens a kernel block may have."""
        return min(self.kernel_block_sizes())

    def supports_block_size(self, block_size: int) -> bool:
        """Whether blocks of so many tokens can be cut into its kernel blocks."""
        sizes = self.kernel_block_sizes()
        if self.declaration.exact_blocks:
            return block_size in sizes
        return not sizes or any(block_size % size == 0 for size in sizes)

    def preferred_block_size(self, default: int = 16) -> int:
        """Tokens per block it asks for: the default where it can."""
        if self.declaration.preferred is not None:
            return self.declaration.preferred
        return default if self.supports_block_size(default) else self.smallest_kernel_block()

    def largest_kernel_block(self, bytes_per_token: int, page_budget: int, fallback: int) -> int:
        """Tokens of the largest block whose page fits; of the smallest one where none fits."""
        head_size_v = self.head_size if self.head_size_v is None else self.head_size_v
        question = self.layer_question(self.head_size, head_size_v, self.kv_cache_dtype, 1)
        room = page_budget // bytes_per_token
        sizes = [
            max(block.tokens, room // block.tokens * block.tokens)
            if block.multiples
            else block.tokens
            for block in self.answer(question)
        ]
        if not sizes:
            return fallback
        fitting = [size for size in sizes if size * bytes_per_token <= page_budget]
        return max(fitting) if fitting else min(sizes)

    def pack(self, spec: AttentionSpec) -> AttentionSpec:
        """The spec as this backend's kernels store it (vLLM's ``customize_spec``)."""
        pack = self.declaration.pack
        return spec if pack is None else pack(spec, self.capability)

    def customize(self, spec: AttentionSpec) -> AttentionSpec:
        """The packed spec, its blocks whole kernel blocks apart.

        Source: vLLM 0.33 ``v1/worker/utils.py`` ``customize_attention_spec``.
        """
        spec = self.pack(spec)
        blocks = self.kernel_blocks(spec)
        aligned = spec.block_stride_bytes != 1 or spec.block_stride_tokens is not None
        if aligned or not blocks or any(block.multiples for block in blocks):
            return spec
        return replace(spec, block_stride_tokens=max(block.tokens for block in blocks))


def layer_bytes_per_token(
    backend: AttentionBackend, *, dtype: str, kv_cache_dtype: str, use_mla: bool = False
) -> int:
    """One token of one layer in this KV cache dtype, packed by the backend.

    Latents are counted unpacked; ``auto`` is the model's dtype.
    """
    spec = one_token(backend, dtype, kv_cache_dtype, use_mla=use_mla)
    return spec.page_size_bytes if use_mla else backend.pack(spec).page_size_bytes


def hybrid_bytes_per_token(
    backend: AttentionBackend,
    *,
    dtype: str,
    kv_cache_dtype: str,
    use_mla: bool,
    has_skip_layers: bool,
) -> int:
    """What alignment with states reckons with.

    With TurboQuant or UltraQuant and unquantised layers beside, pages of both kinds must fit:
    the least common multiple.
    """
    spec = one_token(backend, dtype, kv_cache_dtype, use_mla=use_mla)
    packed = kv_cache_dtype in TURBOQUANT_BITS or kv_cache_dtype == "ultraquant_4bit"
    if use_mla or not packed:
        return layer_bytes_per_token(
            backend, dtype=dtype, kv_cache_dtype=kv_cache_dtype, use_mla=use_mla
        )
    pack = ultraquant if kv_cache_dtype == "ultraquant_4bit" else turboquant
    page = pack(spec, backend.capability).page_size_bytes
    if not has_skip_layers:
        return page
    return lcm(page, one_token(backend, dtype, "auto", use_mla=False).page_size_bytes)


def one_token(
    backend: AttentionBackend, dtype: str, kv_cache_dtype: str, *, use_mla: bool
) -> AttentionSpec:
    """A layer of the model's own widths with a block of one token."""
    facts = backend.facts
    kind = MLAAttentionSpec if use_mla else FullAttentionSpec
    return kind(
        block_size=1,
        num_kv_heads=1 if use_mla else facts.num_kv_heads,
        head_size=facts.head_size,
        head_size_v=0 if use_mla else facts.head_size,
        dtype_bytes=kv_cache_element_bytes(kv_cache_dtype, dtype),
        kv_cache_dtype=kv_cache_dtype,
    )
