"""One table for all: columns of any file become names of the set."""
