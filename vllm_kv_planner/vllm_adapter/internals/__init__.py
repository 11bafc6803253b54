"""Everything that touches vLLM's own names; imported in the child process only.

Names are looked up where they are needed, by ``names.py``, which knows where each version keeps
them and refuses by name where one is missing.
"""
