"""Synthetic pictures held against real ones, in numbers."""
