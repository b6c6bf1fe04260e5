"""The phantoms and the small base model, which no clinical user reads."""
