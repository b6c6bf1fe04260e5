"""Synthetic pictures compared with real ones, in numbers."""
