"""Settings of all tests."""

import os

from hypothesis import settings

# No test asks the real Hub: those about the Hub run one of their own (hub_fixtures.py).
os.environ["HF_HUB_OFFLINE"] = "1"

# What nobody foresaw is raised, not told in a line.
os.environ["VLLM_KV_PLANNER_DEBUG"] = "1"

# Speed is measured by benchmarks/, never by a test that fails on a busy machine. The examples are
# the same each time; `pytest --hypothesis-profile fresh` draws new ones.
settings.register_profile("fresh", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.load_profile("same")
