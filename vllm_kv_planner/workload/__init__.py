"""How many requests really run: vLLM's scheduling at token and block level, step by step."""
