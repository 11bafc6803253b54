"""Many set-ups at once: a grid planned on all cores, row by row into a file that can be resumed."""
