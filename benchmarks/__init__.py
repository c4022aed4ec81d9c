"""Measurements: a load generator, a sink, and the baselines the bus is compared with. Never imported by the bus."""
