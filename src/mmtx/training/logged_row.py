"""The row of the log of a training step."""

from collections.abc import Mapping

from torch import Tensor


def is_logged(step: int, every_steps: int, total_steps: int) -> bool:
    """Whether a step has a row: every so many, the first and the last."""
    return step % every_steps == 0 or step in (1, total_steps)


def logged_row(
    metrics: Mapping[str, float],
    *,
    lr: float,
    epoch: float,
    grad_norm: Tensor | None,
    grad_norms: Mapping[str, Tensor],
    skipped_samples: int,
) -> dict[str, float]:
    """Metrics of the objectives and the throughput, with what docs/metrics.md lists besides."""
    row = {**metrics, "train/lr": lr, "train/epoch": epoch}
    if grad_norm is not None:
        row["train/grad_norm"] = float(grad_norm)
        row |= {f"train/grad_norm/{name}": float(norm) for name, norm in grad_norms.items()}
    if skipped_samples:
        row["train/skipped_samples"] = float(skipped_samples)
    return row
