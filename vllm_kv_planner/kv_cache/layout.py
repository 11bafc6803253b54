"""How the pages of all layers lie in memory, as far as it decides the block count.

vLLM names a layout by the order of its axes, outermost first: L layer, B block, H head, N state,
C content. With the block outermost, pages of different size may stand side by side in one block.

Source: vLLM 0.33 ``v1/kv_cache_layout.py`` and ``v1/attention/backends/utils.py``
(``get_supported_kv_cache_layouts``, ``resolve_kv_cache_layout``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import UnsupportedError
from .specs import AttentionSpec, CircularBufferSpec, KVCacheSpec

LAYOUTS = ("LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC")
DEFAULT_PREFERENCE = ("LBNHC", "LBHNC", "BLNHC", "BLHNC", "BHLNC", "LHBNC")


def is_block_outermost(layout: str) -> bool:
    """Whether each block holds the pages of all layers side by side."""
    return layout[0] == "B"


def is_block_compact(layout: str) -> bool:
    """Whether a page is one run of bytes."""
    return set(layout[:2]) == {"L", "B"}


def supported_by_all(backends: Sequence[tuple[str, ...] | None]) -> tuple[str, ...]:
    """Layouts that every backend can read, best first.

    Args:
        backends: Per attention backend its layouts, most preferred first; None takes any.

    Raises:
        UnsupportedError: No layout suits all of them.
    """
    declared = [layouts for layouts in backends if layouts is not None] or [DEFAULT_PREFERENCE]
    if all(layouts == declared[0] for layouts in declared[1:]):
        return declared[0]
    common = set.intersection(*map(set, declared))
    firsts = [layouts[0] for layouts in declared]
    ranked = sorted((x for x in LAYOUTS if x in common), key=firsts.count, reverse=True)
    if not ranked:
        raise UnsupportedError("the model's attention backends share no KV cache layout")
    return tuple(ranked)


def resolve_layout(candidates: Sequence[str], specs: Iterable[KVCacheSpec]) -> str:
    """The layout the engine settles on for these layers.

    Raises:
        UnsupportedError: Pages of different shape, and no candidate can hold them.
    """
    shapes, sharded, pages = set(), set(), set()
    for spec in specs:
        pages.add(spec.page_size_bytes)
        if isinstance(spec, AttentionSpec):
            shapes.add(spec.layout_shape())
            if not isinstance(spec, CircularBufferSpec):
                sharded.add(spec.dcp_sharded)
        else:
            shapes.add((1, 1, spec.page_size_bytes))
    usable = [x for x in candidates if len(shapes) < 2 or is_block_compact(x)]
    if len(sharded) > 1 and len(pages) > 1:
        usable = [x for x in usable if is_block_outermost(x)]
    if not usable:
        raise UnsupportedError("no KV cache layout can hold this model's mixed pages")
    return usable[0]
