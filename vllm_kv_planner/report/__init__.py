"""Show an answer: it builds one ``Document``, which ``render`` prints in every format.

Nothing here knows what is shown: every other folder may import this one, and it imports none.
"""
