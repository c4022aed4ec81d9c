"""The demonstration: a small province on one machine, and the story of one dossier told by real processes."""
