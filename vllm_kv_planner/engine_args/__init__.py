"""How will vLLM run the model? Engine flags as ``vllm serve`` takes them, and its defaults."""
