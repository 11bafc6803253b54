"""Show a plan. Every format is made from the one ``Plan`` object."""
