"""Training: from a GGUF file and kept paths to a LoRA adapter for both back ends."""
