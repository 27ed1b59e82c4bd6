"""Pictures and texts that a person would look at."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.modalities.image import Image
from mmtx.objectives.base import Example
from mmtx.training.module import MultimodalModule, is_sharded


class Samples(Callback):
    """After the run, and every so many validations: some predictions beside the truth.

    Pictures are drawn with their patches; everything else goes to a text file. Both are shown to the loggers.

    Args:
        num_samples: how many.
        every_validations: validations between samples; null: at the end only.
    """

    def __init__(self, *, num_samples: int, every_validations: int | None) -> None:
        self.num_samples, self.every_validations = num_samples, every_validations
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultimodalModule)
        self._validations += 1
        last = trainer.global_step >= pl_module.total_steps
        due = self.every_validations is not None and self._validations % self.every_validations == 0
        if (due or last) and trainer.is_global_zero and not is_sharded(trainer):
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultimodalModule)
        if pl_module.data.source.val() is None and trainer.is_global_zero and not is_sharded(trainer):
            self._write(trainer, pl_module)  # there was no validation to follow

    def _write(self, trainer: pl.Trainer, module: MultimodalModule) -> None:
        loader = module.data.eval_loader("val", rank=0, num_ranks=1) or module.data.eval_loader(
            "train", rank=0, num_ranks=1
        )
        assert loader is not None
        batch: Batch = next(iter(loader))[0].select(slice(self.num_samples)).to(module.device)
        learner = module.learner
        was_training = learner.training
        learner.eval()
        with torch.no_grad(), module.averaged():
            examples = {name: learner.objective(name).examples(learner.model, batch) for name in learner.objectives}
        learner.train(was_training)
        folder = Path(trainer.default_root_dir) / "samples"
        folder.mkdir(exist_ok=True)
        for name, of_objective in examples.items():
            stem = folder / f"{name}_step{trainer.global_step:06d}"
            _write_texts(stem.with_suffix(".jsonl"), of_objective)
            pictures = draw(learner, batch, of_objective, stem.with_suffix(".png"))
            for logger in trainer.loggers:
                log = getattr(logger, "log_samples", None)
                if log is not None:
                    log(name, of_objective, pictures, trainer.global_step)


def _write_texts(path: Path, examples: list[Example]) -> None:
    lines = [
        json.dumps({"truth": e.truth, "predicted": e.predicted, "right": e.right}, ensure_ascii=False) for e in examples
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(learner: Learner, batch: Batch, examples: list[Example], path: Path) -> Path | None:
    """A grid of the set's pictures with their patches, prediction and truth beneath; None if there is no picture."""
    name, tokenizer = next(((n, t) for n, t in learner.model.tokenizers.items() if isinstance(t, Image)), (None, None))
    if name is None or tokenizer is None:
        return None
    from matplotlib.figure import Figure

    pixels = batch[name]["pixels"].cpu()
    columns = min(4, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    for index, (picture, example) in enumerate(zip(pixels, examples, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
        height, width = picture.shape[1:]
        axes.set_xticks([x - 0.5 for x in range(0, width + 1, tokenizer.patch_size)])
        axes.set_yticks([y - 0.5 for y in range(0, height + 1, tokenizer.patch_size)])
        axes.grid(color="tab:orange", linewidth=0.6)
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        colour = "black" if example.right is None else "tab:green" if example.right else "tab:red"
        axes.set_title(f"{example.predicted}\n(truth: {example.truth})", fontsize=10, color=colour, wrap=True)
    figure.savefig(path, dpi=110)
    return path
