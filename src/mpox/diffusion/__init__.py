"""The base model, the LoRA, its training and its pictures."""
