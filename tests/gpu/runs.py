"""Small runs of every family, in this process: straight through, or stopped and resumed."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmtx
from mmtx.commands.main import main
from mmtx.training.lightning_module import MultimodalModule

STEPS, DIES_IN, ROWS = 5, 3, 4
HERE = Path(__file__).parent
FAMILIES = {
    "text": ["experiment=gpt_shakespeare", "data.path=text.txt", "data.context=16"],
    "pictures": ["experiment=vit_digits", "data=made_up_pictures", "modality.image.patch_size=2"],
    "sounds": [
        *("data=made_up_sounds", "modality=[audio,text]", "objective=[seq2seq]", "encode=[audio]"),
        "objective/metric@objective.seq2seq.metrics=exact_match",
    ],
    "episodes": [
        *("experiment=dt_key_to_door", "data.num_episodes=40", "backbone.dropout=0"),
        *("objective.action.val_episodes=1", "objective.action.test_episodes=1"),
    ],
}
SMALL = [
    *("backbone.dim=64", "backbone.num_layers=2", "backbone.num_heads=2", "logger=[]", "callbacks=[]"),
    *(f"trainer.max_steps={STEPS}", "trainer.max_epochs=null", f"trainer.val_every_steps={STEPS}"),
    *("log_every_steps=1", "checkpoint.every_steps=2", "optim.warmup_steps=0", "plugins=[made_up]"),
]
CONF = {
    "made_up_pictures": "# noise\n_target_: made_up.Pictures\n",
    "made_up_sounds": "# noise\ndefaults: [vocabulary: characters]\n_target_: made_up.Sounds\n",
}


def settle(folder, monkeypatch):
    """Makes a folder the working directory, with data and config for runs; their children find `made_up`."""
    (folder / "conf" / "data").mkdir(parents=True)
    for name, text in CONF.items():
        (folder / "conf" / "data" / f"{name}.yaml").write_text(text)
    (folder / "text.txt").write_text("to be or not to be that is the question " * 40)
    monkeypatch.chdir(folder)
    paths = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def words_of(case, accelerator):
    """Overrides; the global batch is the same on any number of devices."""
    windows = ["backbone.layers=L", "backbone.window=2"] if case["windowed"] else []
    return [
        *FAMILIES[case["family"]],
        *SMALL,
        *windows,
        f"trainer.accelerator={accelerator}",
        f"trainer.devices={case['devices']}",
        f"trainer.precision={case['precision']}",
        f"loader.batch_size={ROWS // case['devices']}",
        f"loader.packing={str(case['packed']).lower()}",
        f"backbone.compile={str(case['compiled']).lower()}",
    ]


def rows_of(run):
    """The rows of training steps."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


def losses_of(run):
    return [row["train/loss"] for row in rows_of(run)]


def straight(case, accelerator, name):
    """The directory of a run from its first step to its last."""
    assert main(["train", *words_of(case, accelerator), f"run_dir={name}"]) == 0
    losses = losses_of(Path(name))
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    return Path(name)


def resumed(case, accelerator, name):
    """The same, of a run that failed in a step and was resumed from the last checkpoint before it."""
    take = MultimodalModule.training_step

    def failing(module, batches, index):
        if module.global_step == DIES_IN:
            raise RuntimeError("a step that fails")
        return take(module, batches, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultimodalModule, "training_step", failing)
        assert main(["train", *words_of(case, accelerator), f"run_dir={name}"]) == 1
    assert main(["resume", name]) == 0
    return Path(name)


def in_a_fixed_order(on=True):
    """Kernels that add in no fixed order are replaced, or refused by torch, and those that round more are left out."""
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.allow_tf32 = not on


KILLED = """
import os, signal, sys
from runs import DIES_IN, MultimodalModule, in_a_fixed_order, main
in_a_fixed_order()
take = MultimodalModule.training_step

def killed(module, batches, index):
    if module.global_step == DIES_IN:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(module, batches, index)

MultimodalModule.training_step = killed
main(sys.argv[1:])
"""


def killed_and_resumed(case, accelerator, name):
    """The same, of a process that was killed."""
    words = ["train", *words_of(case, accelerator), f"run_dir={name}"]
    assert subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True).returncode == -signal.SIGKILL
    assert main(["resume", name]) == 0
    return Path(name)


def assert_same_numbers(one, other):
    """Losses and final weights, bit for bit."""
    assert losses_of(one) == losses_of(other)
    weights, others = (mmtx.load(run, plugins=["made_up"]).state_dict() for run in (one, other))
    assert weights.keys() == others.keys()
    different = [name for name in weights if not torch.equal(weights[name], others[name])]
    assert not different
