"""Files of nobody we know, read within bounds; files of ours, written whole or not at all."""
