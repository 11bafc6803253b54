"""How checkpoints store quantised layers: one file a family of methods."""
