"""What is left for the KV cache: weights, activation peak, CUDA graphs, everything else.

``budget.py`` puts the parts together; each part is a module of its own. What can be derived is
derived from the phases of vLLM's profile run (``activation.py``); what cannot is a row of
``overheads.json`` with version, device and source.
"""
