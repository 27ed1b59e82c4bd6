"""``make gpu``: the tests that need a GPU, then its benchmark. Where there is none, it says what it would do."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ["-m", "pytest", "-o", "addopts=", "-q", "-rs", "-m", "gpu", "tests/gpu"]
BENCHMARK = ["scripts/benchmark_gpu.py"]


def main() -> int:
    lacking = [name for name in ("torch", "lightning", "hydra") if importlib.util.find_spec(name) is None]
    if lacking or not has_gpu():
        why = f"{sys.executable} has no {', '.join(lacking)}" if lacking else "torch finds no GPU"
        print(f"{why}. With a GPU this would run, with {sys.executable}:")
        print(*(f"  python {' '.join(words)}" for words in (TESTS, BENCHMARK)), sep="\n")
        return 0
    if importlib.util.find_spec("pytest") is None:
        print(f"{sys.executable} has no pytest: the tests are left out", flush=True)
        return run(BENCHMARK)
    return run(TESTS) | run(BENCHMARK)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(words: list[str]) -> int:
    """The exit code, 0 or 1; mmtx is that of this checkout."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return int(
        subprocess.run([sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}).returncode != 0
    )


if __name__ == "__main__":
    raise SystemExit(main())
