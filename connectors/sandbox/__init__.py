"""Simulated partners over real HTTP: one file per twin, one name with its connector. See ``app.py``."""
