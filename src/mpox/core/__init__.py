"""What every stage uses: errors, folders, pictures in and out, the table, seeds, pins."""
