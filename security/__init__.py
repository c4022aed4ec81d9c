"""Keys, certificates, signing, the evidence log, encryption at rest. Knows schemas only."""
