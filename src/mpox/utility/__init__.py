"""A classifier with and without the synthetic pictures: arms, scores and guards."""
