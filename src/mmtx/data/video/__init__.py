"""Films, and how their files are decoded."""
