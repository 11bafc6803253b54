"""How pooling models pool, as far as prefix caching and chunked prefill depend on it.

Restates of vLLM 0.33: ``PoolerConfig.__post_init__`` (vllm/config/pooler.py), the pooler's part of
``ModelConfig.__post_init__`` (vllm/config/model.py), and the ``default_pooling_type`` and
``attn_type`` decorators of the models. Sentence-transformers' own files are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .facts import PoolingFacts

_SEQUENCE, _TOKEN = ("CLS", "LAST", "MEAN"), ("ALL", "STEP")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Classes whose default is another than LAST.
_BY_FIRST_TOKEN = _words(
    """
    BertForSequenceClassification BertModel BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel
    CamembertForSequenceClassification CamembertModel ColBERTJinaRobertaModel ColBERTLfm2Model
    ColBERTModernBertModel ColModernVBertForRetrieval ColPaliForRetrieval ColQwen3 ColQwen3_5
    ColUltraVBertForRetrieval ElectraForSequenceClassification ElectraModel GteModel
    GteNewForSequenceClassification GteNewModel HF_ColBERT Lfm2BidirectionalModel
    ModernBertForSequenceClassification ModernBertModel ModernVBertModel NomicBertModel
    OpsColQwen3Model Qwen3VLNemotronEmbedModel RobertaForMaskedLM RobertaForSequenceClassification
    RobertaModel SiglipModel XLMRobertaForSequenceClassification XLMRobertaModel
    """
)
_BY_MEAN = _words("EmbeddingGemma2Model")
_BY_STEP = _words("Qwen2ForProcessRewardModel")
# Classes that attend in both directions though they pool otherwise.
_BOTH_DIRECTIONS = _words(
    """
    BertForMaskedLM BertForTokenClassification ModernBertForTokenClassification
    OpenAIPrivacyFilterForTokenClassification RobertaForTokenClassification
    XLMRobertaForTokenClassification
    """
)


def pooling_facts(
    architecture: str, runner_type: str, pooler_config: Mapping[str, Any] | None
) -> PoolingFacts | None:
    """How the model pools; None for models that generate.

    Raises InputError for a ``--pooler-config`` that vLLM refuses.
    """
    if runner_type != "pooling":
        return None
    default = "CLS" if architecture in _BY_FIRST_TOKEN else "LAST"
    default = "MEAN" if architecture in _BY_MEAN else default
    asked = _asked(pooler_config or {})
    step = "STEP" if architecture in _BY_STEP else "ALL"
    return PoolingFacts(
        seq_pooling_type=asked.get("seq_pooling_type") or default,
        tok_pooling_type=asked.get("tok_pooling_type") or step,
        default_seq_pooling_type=default,
        attn_type="encoder_only" if architecture in _BOTH_DIRECTIONS else "decoder",
    )


def _asked(pooler_config: Mapping[str, Any]) -> dict[str, str]:
    both = pooler_config.get("pooling_type")
    found: dict[str, str] = {}
    for key, valid in (("seq_pooling_type", _SEQUENCE), ("tok_pooling_type", _TOKEN)):
        own = pooler_config.get(key)
        if both is not None and own is not None:
            raise InputError(f"--pooler-config: Cannot set both `pooling_type` and `{key}`")
        value = both if both in valid else own
        if value is None:
            continue
        if value not in valid:
            raise InputError(f"--pooler-config: {key} {value!s:.40}; valid: {', '.join(valid)}")
        found[key] = value
    if both is not None and not found:
        words = ", ".join((*_SEQUENCE, *_TOKEN))
        raise InputError(f"--pooler-config: pooling_type {both!s:.40}; valid: {words}")
    return found
