"""Two runs compared, as a table and as a page."""
