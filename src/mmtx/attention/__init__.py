"""Who attends to whom: the rule, and ways to compute it."""
