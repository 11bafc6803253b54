"""How vLLM pages the KV cache: specs, groups, blocks. Pure arithmetic."""
