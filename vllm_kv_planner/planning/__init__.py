"""One engine planned by the rules restated here: request, stages, verdict, the answer."""
