"""What a model writes and does, step by step."""
