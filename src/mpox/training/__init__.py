"""Training the LoRA."""
