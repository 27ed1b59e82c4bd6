"""Who attends to whom: the rules, and the kernels that compute attention under them."""
