"""The LoRA for others: a folder for the Hugging Face Hub, a file for other programs."""
