"""The page: one self-contained HTML file of a run, and one of two runs side by side."""
