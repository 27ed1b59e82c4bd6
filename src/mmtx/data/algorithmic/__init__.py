"""Tasks whose samples a program makes, with exact answers, of any length."""
