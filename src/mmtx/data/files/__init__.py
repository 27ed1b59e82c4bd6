"""Files that data come in."""
