"""The LoRA and the training set for others: the Hugging Face Hub, other programs, trainers."""
