"""From a folder of photos to prepared and augmented pictures."""
