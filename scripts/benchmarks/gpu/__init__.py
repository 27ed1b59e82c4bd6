"""What `scripts/benchmark_gpu.py` measures: a file for each part, with a function `measured`."""
