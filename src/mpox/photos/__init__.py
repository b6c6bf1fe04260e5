"""From a folder of photos to prepared pictures, split by patient."""
