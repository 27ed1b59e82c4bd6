"""Episodes of acting."""
