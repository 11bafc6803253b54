"""``fit``: which set-ups serve what is asked for, and what one more flag would buy."""
