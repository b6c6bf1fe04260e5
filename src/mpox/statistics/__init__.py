"""Estimates with interval, null and noise; halves that share no patient; rates; skin tone."""
