"""Text generation: prompts of token ids in, finished paths out."""
