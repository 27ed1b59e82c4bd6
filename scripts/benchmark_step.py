"""What a training step costs: ours against Hugging Face's GPT-2, and through our Trainer against our bare step.

Everything runs in one process, interleaved (A B B A ...), after the outputs have been compared; what is printed are
medians of ratios of pairs with a 95% bootstrap interval, and A against A beside them. Absolute times are not portable.

    python scripts/benchmark_step.py [--pairs 31] [--threads 2]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import compare, report
from torch import nn

from mmtx.batch import Batch, Field, Spec
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.data.base import Samples, Source
from mmtx.data.loaders import DataModule
from mmtx.experiment.learner import make_stacks
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.next_token import NextToken
from mmtx.training.gradient_clipping import clip

LAYERS, WIDTH, HEADS, CONTEXT, BATCH, VOCABULARY = 6, 384, 6, 256, 8, 65
CONFIG = [
    "data=python_docs",
    "modality=[text]",
    "objective=[next_token]",
    "backbone/mlp=gelu_tanh",
    f"backbone.dim={WIDTH}",
    f"backbone.num_layers={LAYERS}",
    f"backbone.num_heads={HEADS}",
]


class RandomText(Source):
    """Random ids, so that neither side waits for data."""

    @property
    def specs(self) -> dict[str, Spec]:
        return {"text": Spec({"ids": Field((None,), torch.long, num_classes=VOCABULARY, max_length=CONTEXT + 1)})}

    def train(self) -> Samples:
        ids = torch.randint(0, VOCABULARY, (100_000,), generator=torch.Generator().manual_seed(0))
        return Samples(90_000, lambda i: {"text": {"ids": ids[i : i + CONTEXT + 1]}})

    def val(self) -> None:
        return None

    def test(self) -> None:
        return None


def our_learner() -> Learner:
    config, specs = compose(CONFIG), RandomText().specs
    backbone, _ = make_stacks(config, lambda _, make: make())
    assert backbone is not None
    node = {**config["modality"]["text"], "context": CONTEXT}
    tokenizer = construct(node, spec=specs["text"], dim=WIDTH)
    model = MultimodalTransformer(
        tokenizers={"text": tokenizer},
        backbone=backbone,
        encoder=None,
        encode=[],
        type_embeddings=False,
        clocks={},
    )
    objective = construct(config["objective"]["next_token"], specs=specs, model=model)
    return Learner(model=model, objectives={"next_token": objective}, specs=specs)


def peer_model(dropout: float) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=LAYERS,
        n_embd=WIDTH,
        n_head=HEADS,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        attn_implementation="sdpa",
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


@torch.no_grad()
def copy_weights(peer: nn.Module, ours: Learner) -> None:
    source, target = peer.state_dict(), ours.model.state_dict()

    def put(key: str, value: torch.Tensor) -> None:
        target[key].copy_(value)

    put("tokenizers.text.embedding.weight", source["transformer.wte.weight"])
    put("position_embeddings.text.table.weight", source["transformer.wpe.weight"])
    for part in ("weight", "bias"):
        put(f"backbone.final_norm.{part}", source[f"transformer.ln_f.{part}"])
    for layer in range(LAYERS):
        theirs, mine = f"transformer.h.{layer}", f"backbone.blocks.{layer}"
        for norm, name in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
            for part in ("weight", "bias"):
                put(f"{mine}.{name}.{part}", source[f"{theirs}.{norm}.{part}"])
        put(f"{mine}.attention.qkv.weight", source[f"{theirs}.attn.c_attn.weight"].T)
        for index, name in enumerate(("query", "key", "value")):
            bias = source[f"{theirs}.attn.c_attn.bias"][index * WIDTH : (index + 1) * WIDTH]
            put(f"{mine}.attention.biases.{name}", bias)
        for conv, name in (("attn.c_proj", "attention.out"), ("mlp.c_fc", "mlp.up"), ("mlp.c_proj", "mlp.down")):
            put(f"{mine}.{name}.weight", source[f"{theirs}.{conv}.weight"].T)
            put(f"{mine}.{name}.bias", source[f"{theirs}.{conv}.bias"])


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)


def our_step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    score = learner(batch)["next_token"]
    (score.loss_sum / score.count).backward()
    clip(learner.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def peer_step(peer: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> None:
    logits = peer(ids[:, :-1]).logits
    nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def trainer_seconds(learner: Learner, steps: int, warm_up: int) -> list[float]:
    """Seconds per step through the Trainer, loading, logging and callbacks included."""
    from lightning.pytorch.callbacks import Callback

    from mmtx.run.metrics_log import MetricsLog
    from mmtx.training.lightning_module import MultimodalModule
    from mmtx.training.progress import Progress

    stamps: list[float] = []

    class Stamp(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            stamps.append(time.perf_counter())

    config = compose([*CONFIG, "optim.lr=1e-4", "trainer.accelerator=cpu"])
    optimisation, training = construct(config["optim"]), construct(config["trainer"])
    data = DataModule(
        source=RandomText(),
        names=["text"],
        seed=0,
        batch_size=BATCH,
        eval_batch_size=None,
        num_workers=0,
        packing=False,
        on_bad_sample="raise",
        max_bad_share=0,
    )
    module = MultimodalModule(
        learner=learner,
        optimisation=optimisation,
        data=data,
        total_steps=steps,
        accumulate=1,
        samples_per_step=BATCH,
        log_every_steps=10,
        seed=0,
        max_skips=training.max_skips,
        data_timeout_s=training.data_timeout_s,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = training.trainer(
            total_steps=steps, epoch_steps=steps + 1, run_dir=Path(folder),
            loggers=[MetricsLog(Path(folder) / "metrics.jsonl")], callbacks=[Progress(), Stamp()],
        )  # fmt: skip
        trainer.fit(module)
    return [b - a for a, b in zip(stamps[warm_up:], stamps[warm_up + 1 :], strict=False)]


def compare_trainer(learner: Learner, bare: Callable[[], None], blocks: int, steps: int) -> list[float]:
    """Ratios of medians of neighbouring blocks: Trainer / bare."""
    ratios = []
    for _ in range(blocks):
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            bare()
            times.append(time.perf_counter() - start)
        through = trainer_seconds(learner, steps, warm_up=3)
        ratios.append(statistics.median(through) / statistics.median(times[3:]))
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    learner, peer, as_shipped = our_learner(), peer_model(dropout=0.0), peer_model(dropout=0.1)
    copy_weights(peer, learner)
    ids = torch.randint(0, VOCABULARY, (BATCH, CONTEXT + 1))
    batch = Batch({"text": {"ids": ids}}, {"text": torch.full((BATCH,), CONTEXT + 1)}, {"text": True})
    objective = learner.objective("next_token")
    assert isinstance(objective, NextToken)
    with torch.no_grad():
        inputs, _, _ = objective.head.shift(batch)
        ours = objective.head.logits(learner.model, learner.model(inputs).tokens("text"))
        theirs = peer(ids[:, :-1]).logits
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"torch {torch.__version__}, {arguments.threads} threads; logits differ by {difference:.1e} relative")
    assert difference < 1e-4, "no ratio without equal outputs"
    learner.train(), peer.train(), as_shipped.train()
    own, other, third = adamw(learner), adamw(peer), adamw(as_shipped)
    gc.disable()

    def bare() -> None:
        our_step(learner, own, batch)

    def theirs_step() -> None:
        peer_step(peer, other, ids)

    report("our step / Hugging Face GPT-2 (sdpa, no dropout)", compare(bare, theirs_step, arguments.pairs))

    def shipped_step() -> None:
        peer_step(as_shipped, third, ids)

    report("our step / the same with its default dropout of 0.1", compare(bare, shipped_step, arguments.pairs))
    report("our step / our step", compare(bare, bare, arguments.pairs))
    if arguments.blocks:
        report("step through the Trainer / our step", compare_trainer(learner, bare, arguments.blocks, 15))


if __name__ == "__main__":
    main()
