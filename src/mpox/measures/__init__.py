"""Measures of how synthetic pictures compare with real ones."""
