"""What one GPU does with mmtx, beside plain torch and `transformers`: a table in Markdown.

    python scripts/benchmark_gpu.py [NAME ...] [--device cuda]

Needs torch, lightning and hydra-core; what needs more is skipped and named. Without a GPU it says what it would do.
``--device cpu --tiny`` tries whether everything runs.
"""

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

PARTS = {
    "training": "training steps at 124M and 10.8M, bare and in the Trainer, eager and compiled, beside plain torch",
    "packing": "packed beside padded training steps",
    "windows": "windows from 1k to 32k tokens beside none",
    "generation": "generation at 124M and 1B beside transformers and the limit of bandwidth",
    "log_mel": "log-mel spectrograms beside plain torch",
    "pictures": "the input pipeline of vit_cifar10 beside what the model takes",
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(words)
    names = options.names or list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU. With one this would measure:", *(f"- {PARTS[name]}" for name in names), sep="\n")
        return 0
    return measure(names, options.device, options.tiny)


def measure(names: list[str], device_name: str, tiny: bool) -> int:
    """Prints the table. Gives the exit code: 1 where a part failed, whose error is in the table."""
    from benchmarks.bare_machine import stand_in

    stand_in()
    from benchmarks.gpu.device import Device
    from benchmarks.page import commit, versions

    device = Device(device_name, tiny)
    print(f"{device.title}, {versions()}, commit {commit()}. Peaks measured: ", end="")
    print(f"{device.peak_flops / 1e12:.0f} TFLOP/s in bfloat16, {device.peak_bytes / 1e9:.0f} GB/s read.\n")
    print(
        "| what | reached | beside | ratio of times | share of the peak | memory of a step |\n|---|---|---|---|---|---|"
    )
    failed = False
    for name in names:
        begun = time.monotonic()
        device.forget()
        try:
            for line in importlib.import_module(f"benchmarks.gpu.{name}").measured(device):
                print(cells(line), flush=True)
        except Exception as error:
            failed = True
            traceback.print_exc()
            print(f"| {name} failed | {type(error).__name__}: {str(error).splitlines()[:1]} | | | | |", flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print("".join(f"\nSkipped: {what}." for what in device.skipped))
    return int(failed)


def cells(line) -> str:
    """A row of the table."""
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    share = "" if line.share is None else f"{line.share:.2f}"
    gib = "" if line.gib is None else f"{line.gib:.2f} GiB"
    return f"| {line.what} | {line.value} | {line.peer} | {ratio} | {share} | {gib} |"


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "src"))  # where mmtx is not installed
    raise SystemExit(main())
