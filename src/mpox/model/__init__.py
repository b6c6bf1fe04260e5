"""The base model, its LoRA and its loss; resume points, launched processes."""
