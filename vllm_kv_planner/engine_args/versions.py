"""What an earlier vLLM plans otherwise than the one that is restated: each rule with its versions.

Every difference in defaults, blocks, groups and refusals stands here, as data: since when a rule
holds, and the file of vLLM that says so. How memory is measured is in ``memory/versions.py``.

The judge is vLLM's own planning code of each version: 0.26 to 0.32 were run over models of every
kind (``benchmarks/parity.py --families``), and their answers are kept in
``tests/data/vllm_versions.jsonl``. What is older was read in the sources of 0.20 to 0.25.
"""

from __future__ import annotations

from ..model.layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ..model.layers.mamba import Mamba2, StateLayer
from ..records import dataclass
from ..version import VLLM_MINOR

Minor = tuple[int, int]
FIRST: Minor = (0, 10)
"""The oldest version that is planned for."""


Reason = tuple[Minor, tuple[str, ...], str]
"""A version that changed something, the figures of a plan it may move first, and what it did."""


class Between:
    """A rule of the minor versions from ``first`` on, and before ``before`` where it ended.

    ``began`` and ``ended`` tell a reader of ``upgrade`` what these two versions changed, ``moves``
    which figures of a plan may show it first (by the names of ``capacity/upgrade.py``).
    """

    def __init__(
        self,
        first: Minor = FIRST,
        began: str = "",
        moves: tuple[str, ...] = ("activation peak",),
        *,
        before: Minor | None = None,
        ended: str = "",
    ) -> None:
        self.first, self.before = first, before or (VLLM_MINOR[0] + 1, 0)
        self.reasons: list[Reason] = [
            (version, moves, why) for version, why in ((first, began), (self.before, ended)) if why
        ]

    def __get__(self, rules: PlanningRules, owner: type) -> bool:
        return self.first <= rules.version < self.before


_STEP = ("max_num_batched_tokens", "max_num_seqs")
_LAYERS = ("bytes per block", "blocks of a request")


@dataclass(frozen=True)
class PlanningRules:
    """How one minor version plans; by default the one that is restated."""

    version: Minor = VLLM_MINOR

    # engine/arg_utils.py, get_batch_defaults
    largest_gpus_step_further = Between(
        (0, 28), "a server on a GPU of 160 GiB or more steps by 16,384 tokens, not 8,192", _STEP
    )

    # engine/arg_utils.py, _set_default_chunked_prefill_and_prefix_caching_args
    hybrids_cache_prefixes = Between(
        (0, 28),
        "prefix caching is on by default for models with states, too",
        ("enable_prefix_caching",),
    )

    # model_executor/models/config.py, MambaModelConfig
    keeps_last_states_only = Between(
        (0, 28),
        "with prefix caching Mamba layers keep the last states, not one for every block",
        ("blocks of a request",),
    )

    # model_executor/models/config.py, MODELS_CONFIG_MAP
    blackwell_glm_is_fp8 = Between(
        (0, 32), "GLM-5 keeps its cache in fp8 on B200 and B300 by default", ("kv_cache_dtype",)
    )
    blackwell_glm_next_is_fp8 = Between(
        (0, 33),
        "GLM-5.3-Flash keeps its cache in fp8 on B200 and B300 by default",
        ("kv_cache_dtype",),
    )

    # config/model.py, _get_and_verify_max_len
    yarn_is_stated_scaled = Between(
        (0, 30),
        "a config's max_position_embeddings is taken as YaRN left it, not stretched again",
        ("max_model_len",),
    )

    # models/deepseek_v4/attention.py, _resolve_dsv4_kv_cache_dtype
    deepseek_v4_is_fp8 = Between(
        (0, 30), "DeepSeek-V4 takes --kv-cache-dtype auto as fp8", ("kv_cache_dtype",)
    )

    # config/vllm.py, __post_init__
    connectors_keep_hybrid = Between(
        (0, 22),
        "the hybrid KV cache manager stays on with a KV connector that can work with it",
        _LAYERS,
    )

    # platforms/interface.py, Platform._align_hybrid_block_size
    latent_hybrids_keep_runs = Between(
        (0, 27), "blocks of latents beside states are multiples of 128 tokens", ("block_size",)
    )
    hybrids_suit_all_backends = Between(
        (0, 32),
        "blocks beside states suit every attention backend, not the first alone",
        ("block_size",),
    )

    # v1/core/kv_cache_utils.py, _get_packed_kv_cache_layout, later _get_packed_kv_cache_groups
    packs_mixed_pages = Between(
        (0, 27), "pages of different size lie side by side in one block", _LAYERS
    )

    # config/vllm.py, max_in_flight_tokens
    steps_in_flight_hold_blocks = Between(
        (0, 26),
        "a window holds the blocks of every step in flight, not of one",
        ("blocks of a request",),
    )

    # v1/core/kv_cache_utils.py, get_kv_cache_capacity
    tokens_by_concurrency = Between(
        (0, 21),
        "the log's token count is concurrency x length; before, blocks x size / groups",
        ("tokens",),
    )

    # model_executor/models/deepseek_v2.py, DeepseekV2MLAAttention
    shared_indexes_keep_nothing = Between(
        (0, 24),
        "layers that attend by another layer's index keep no index keys",
        ("bytes per block",),
    )


TODAY = PlanningRules()
"""Those that are restated."""


@dataclass(frozen=True)
class StateHistory:
    """What is known of a kind of state; sources are the files of its mixers.

    Attributes:
        compared: The oldest version whose blocks were compared with vLLM's own.
        exported: From here on a prefill can export a state, which is a block more of a request
            and may bind blocks to a grid.
    """

    compared: Minor = (0, 26)
    exported: Minor = FIRST


STATES: dict[type[StateLayer], StateHistory] = {
    # mamba/gdn/qwen_gdn_linear_attn.py; published starts of 0.17.1 to 0.24 agree
    GatedDeltaNet: StateHistory(compared=(0, 17), exported=(0, 33)),
    # mamba/mamba_mixer2.py; a published start of 0.19.2 agrees
    Mamba2: StateHistory(compared=(0, 19), exported=(0, 32)),
    # models/kimi_k3/nvidia/kda.py
    KimiDeltaAttention: StateHistory(exported=(0, 29)),
}
"""By the class of the layer; a kind that is not told here never exports one, or always did."""
_GLM_NEXT = StateHistory(compared=(0, 30), exported=(0, 32))  # models/glm5next/common/kda.py
STATES_OF = {"Glm5NextForCausalLM": _GLM_NEXT, "Glm5NextForConditionalGeneration": _GLM_NEXT}
"""Architectures whose class has a history of its own."""


def state_history(layer: StateLayer, architecture: str) -> StateHistory:
    """What is known of the states of a layer."""
    kinds = (STATES[kind] for kind in type(layer).__mro__ if kind in STATES)
    return STATES_OF.get(architecture) or next(kinds, StateHistory())


def reasons(rules: type[PlanningRules]) -> list[Reason]:
    """What each version changed, the oldest first, for those who ask why a figure moved."""
    found = [
        reason
        for owner in rules.__mro__
        for rule in vars(owner).values()
        if isinstance(rule, Between)
        for reason in rule.reasons
    ]
    for kind, history in STATES.items():
        if history.exported > FIRST:
            why = f"a prefill can export a state of {kind.__name__} layers: a block more a request"
            found.append((history.exported, ("block_size", "blocks of a request"), why))
    return sorted(found, key=lambda reason: reason[0])
