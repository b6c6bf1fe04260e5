"""Phantoms and the small base: what no clinical user reads."""
