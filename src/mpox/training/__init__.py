"""The training of the LoRA."""
