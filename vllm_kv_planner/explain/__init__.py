"""Predicted beside actual: an engine's start planned again from its own log, part by part."""
