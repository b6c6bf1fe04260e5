"""Does synthetic data help a classifier? The arms, their scores, and the guards beside them."""
