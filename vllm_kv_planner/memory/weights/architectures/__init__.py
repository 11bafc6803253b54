"""Which modules an architecture has: one row a name in ``families.json``, a rule a family."""
