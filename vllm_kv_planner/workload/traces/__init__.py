"""Traces of real requests, read as streams: what people publish, and what they log themselves."""
