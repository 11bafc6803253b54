"""Settings of all tests."""

import os

from hypothesis import settings

# No test asks the real Hub: those about the Hub run one of their own (hub_fixtures.py).
os.environ["HF_HUB_OFFLINE"] = "1"

# Speed is measured by benchmarks/, never by a test that fails on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
