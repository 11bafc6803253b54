"""The versions, ours and vLLM's, alone in a file so that nothing else is imported to read them."""

__version__ = "0.1.0"

VLLM_VERSION = "0.33.0"
"""vLLM's version whose rules are restated; every range that ends with it says so by this name."""
VLLM = VLLM_VERSION.rpartition(".")[0]
"""Major and minor version, as vLLM's users say it."""
VLLM_MINOR: tuple[int, int] = (int(VLLM.split(".")[0]), int(VLLM.split(".")[1]))
