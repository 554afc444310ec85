"""Text generation by an OpenAI-compatible server: prompts as text or messages, paths as text."""
