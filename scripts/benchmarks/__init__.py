"""What `scripts/benchmark.py` and `scripts/benchmark_gpu.py` measure: a file for each comparison."""
