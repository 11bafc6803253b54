"""One class per kind of cache layer: which backend it asks for, and what it keeps."""
