"""Plan a ``vllm serve`` command first, then become it."""
