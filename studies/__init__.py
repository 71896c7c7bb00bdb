"""One question per file; scripts and their recorded answers."""
