"""One file per partner system, both directions in it. Knows nothing of the bus."""
