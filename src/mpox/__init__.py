"""Clinical photos of mpox lesions → DreamBooth LoRA → synthetic photos → metrics."""
