"""Many runs from one command: planned and checked, one process each, on as many devices as there are."""
