"""The evidence log: a Merkle tree over everything that was accepted, delivered, given up or refused."""
