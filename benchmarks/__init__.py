"""Benchmarks: scores and timings. Nothing here is a test, nothing is shipped."""
