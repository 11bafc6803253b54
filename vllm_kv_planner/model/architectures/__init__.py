"""Rules of architectures: which cache layers a model has. Start at ``registry.py``."""
