"""Settings of all tests."""

from hypothesis import settings

# Speed is measured by benchmarks/, never by a test that fails on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
