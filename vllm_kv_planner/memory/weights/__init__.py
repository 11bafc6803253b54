"""Weights per rank: how much of a GPU the model takes before anything runs.

``weights_per_rank`` adds up the tensors that vLLM's layers would hold, ``headers`` reads what a
checkpoint holds.
"""

from .estimate import StageWeights, WeightsEstimate
from .per_rank import setup_weights, weights_per_rank

__all__ = ["StageWeights", "WeightsEstimate", "setup_weights", "weights_per_rank"]
