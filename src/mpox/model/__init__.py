"""The base model, its LoRA and its loss; captions, resume points, launched processes."""
