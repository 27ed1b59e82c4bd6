"""Every mistake gives exit code 2 and one message with the key, the value and the nearest right one."""

import pytest
from run_cli import mmtx, text_of

from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.config.stored import with_overrides
from mmtx.config.sweeps import expand_sweep
from mmtx.config.targets import resolve
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment import assemble

SPELT = ["experiment=spell_digits"]
ENCODED = [*SPELT, "objective=[seq2seq]", "encode=[image]"]
DOORS = ["data=key_to_door", "data.num_episodes=50", "modality=[return,state,action]", "objective=[action]"]
PACKED_ON_A_GPU = ["loader.packing=true", "trainer.accelerator=cuda"]
ROTARY = ["backbone/positions=rotary"]
MISTAKES = [
    (["backbone.dimm=64"], ["backbone.dimm=64", "'dim'"]),
    (["+backbone.dimm=64"], ["backbone.dimm=64", "'dim'"]),
    (["++backbone.dimm=64"], ["backbone.dimm=64", "'dim'"]),
    (["backbone.dim=abc"], ["backbone.dim=abc", "not an integer"]),
    (["backbone.dim=0"], ["backbone.dim=0", "at least 1"]),
    (["backbone.dim=130"], ["backbone.dim=130", "num_heads=4", "128 or 132"]),
    (["backbone.attention.num_kv_heads=3"], ["num_kv_heads=3", "num_heads=4"]),
    (
        ["backbone.window_pattern=LLLG"],
        ["1 problem", "backbone.window_pattern=LLLG has moved; write backbone.layers=LLLG"],
    ),
    (["backbone.layers=LX"], ["backbone.layers=LX", "names X", "LLLG"]),
    (["backbone.layers=L"], ["backbone.window=None", "kind L"]),
    (["backbone.kinds.G.mixer={_target_: torch.nn.GRU}"], ["1 problem", "backbone.kinds.G.mixer=GRU is no mixer"]),
    ([*ENCODED, "+encoder.layers=GX"], ["1 problem", "encoder.layers=GX names X"]),
    (
        [*ENCODED, "backbone.window=9", "+encoder.window=0", "+encoder.layers=L"],
        ["1 problem", "encoder.window=0 must be"],
    ),
    ([*ENCODED, "+encoder.kinds.G.window=0"], ["1 problem", "encoder.kinds.G.window=0 must be at least 1"]),
    (["backbone.layers=GX", "backbone.kinds.X.mlp=gelu"], ["backbone.kinds.X.mlp=gelu is not"]),
    (["backbone.kinds.L.windw=3"], ["unknown key backbone.kinds.L.windw=3", "'window'"]),
    (["backbone.kinds.G.window=wide"], ["backbone.kinds.G.window=wide is not an integer or true or false"]),
    (["backbone/mlp=swigluu"], ["backbone/mlp=swigluu", "'swiglu'"]),
    (["backbone.mlp.expansion=wide"], ["backbone.mlp.expansion=wide", "a number"]),
    (["modality.image.patch_size=3"], ["modality.image.patch_size=3", "8 x 8", "2, 4"]),
    (["modality=[imagee]"], ["modality=imagee", "'image'"]),
    (["modality=[]"], ["modality=[]"]),
    ([*SPELT, "modality=[text]", "modality.image.patch_size=4"], ["modality.image.patch_size", "[text]"]),
    (["objective=[classify]", "modality=[image]", "objective.classify.label=lable"], ["label=lable", "label"]),
    ([*SPELT, "objective.next_token.text=txt"], ["text=txt", "image, text"]),
    (["data=digitz"], ["data=digitz", "'digits'"]),
    (["experiment=vit"], ["experiment=vit", "vit_digits"]),
    (["data=text_file", "modality=[text]", "objective=[next_token]"], ["data.path", "missing"]),
    (["experiment=gpt_shakespeare", "data.path=/no/such/file"], ["data.path=/no/such/file"]),
    (["data=image_folder", "data.path=."], ["data"]),
    (["loader.batch_size=0"], ["loader.batch_size=0"]),
    (["loader.packing=3"], ["loader.packing=3", "not true or false"]),
    (["data.batch_size=32"], ["1 problem", "data.batch_size=32 has moved; write loader.batch_size=32"]),
    (["experiment=generalist", "data.parts.docs.packing=true"], ["1 problem", "write loader.packing=true"]),
    (["loader=[default,recordings]"], ["1 problem", "there is one loader"]),
    (["~loader.packing"], ["loader.packing is missing"]),
    ([*SPELT, "modality_dropout={radar: 0.5}"], ["modality_dropout.radar=0.5", "[image, text]"]),
    (["optim.lr=nan"], ["optim.lr=nan"]),
    (["optim.lr=-1"], ["optim.lr=-1"]),
    (["optim.lr=null"], ["optim.lr=null is not a number"]),
    (["optim.eps=0"], ["optim.eps=0", "positive"]),
    (["optim.eps=-1"], ["optim.eps=-1", "positive"]),
    (["optim.eps=inf"], ["optim.eps=inf", "positive"]),
    (["optim.clip_norm=0"], ["optim.clip_norm=0", "no gradient", "null does not clip"]),
    (["optim.betas=[a,b]"], ["optim.betas=['a', 'b'] is not a list of numbers"]),
    (["optim=null"], ["optim is missing"]),
    (["~encoder"], ["1 problem", "encoder is missing"]),
    (["~seed"], ["1 problem", "seed is missing"]),
    (["~type_embeddings"], ["1 problem", "type_embeddings is missing"]),
    (["data=[digits,fsdd]"], ["1 problem", "data=[digits,fsdd]", "one data"]),
    (["objective=[classify,classify]"], ["1 problem", "names classify twice"]),
    (["modality=[image,image]"], ["modality=[image,image] names image twice"]),
    (["name=1"], ["name=1 is not a text; as a text: 'name='\"'\"'1'\"'\"''"]),
    (["name="], ["name='' must name a folder", "run_dir="]),
    (["name=.."], ["name='..'"]),
    (["name=/tmp"], ["name='/tmp'"]),
    (["name=a//b"], ["name='a//b'"]),
    (["name='a\nb'"], ["name='a\\nb'"]),
    ([f"name={'x' * 256}"], ["must name a folder"]),
    (["init_from="], ["init_from= is empty"]),
    (["trainer.max_steps=99999999999999999999"], ["trainer.max_steps=99999999999999999999", "1000000000000000"]),
    (["trainer.data_timeout_s=inf"], ["trainer.data_timeout_s=inf", "null waits for ever"]),
    (["trainer.profile=true", "trainer.max_steps=7"], ["trainer.profile=True traces 3 steps", "this run has 7"]),
    (["trainer.peak_tflops=0"], ["trainer.peak_tflops=0", "null measures it on a GPU"]),
    (["trainer.devices='0,1'"], ["trainer.devices=0,1 is not an integer or auto"]),
    (["trainer.devices=[0,0]"], ["trainer.devices=[0, 0] is not an integer or auto"]),
    (["log_every_steps=1.5"], ["1 problem", "log_every_steps=1.5 is not an integer"]),
    (["backbone.dim=30", "backbone.num_heads=32"], ["num_heads=32; nearest: 32\n"]),
    (["optim.schedule.final=2"], ["optim.schedule.final=2"]),
    (["trainer.max_steps=0"], ["trainer.max_steps=0"]),
    (["trainer.strategy=dpp"], ["trainer.strategy=dpp", "ddp"]),
    (["trainer.accelerator=gpu"], ["trainer.accelerator=gpu", "cpu"]),
    (
        [*PACKED_ON_A_GPU, "backbone.attention.dropout=0.1"],
        ["backbone.attention.dropout=0.1 cannot be computed for packed rows on a GPU; set it to 0", "packing=false"],
    ),
    (
        [*PACKED_ON_A_GPU, "backbone/positions=alibi"],
        ["backbone.positions.bias=ALiBi cannot be computed for packed rows on a GPU", "loader.packing=false"],
    ),
    (
        [*PACKED_ON_A_GPU, *ENCODED, "+encoder.attention.dropout=0.2"],
        ["encoder.attention.dropout=0.2 cannot be computed for packed rows on a GPU"],
    ),
    (["trainr.max_steps=1"], ["trainr", "'trainer'"]),
    (["seed=a"], ["seed=a", "an integer"]),
    (["objective=[classify]", "modality=[image]", "objective.classify.weight=-1"], ["objective.classify.weight=-1"]),
    (["seed=-1"], ["seed=-1", "4294967295"]),
    (["plugins=[no_such_lab]"], ["plugins=[no_such_lab]", "not there"]),
    (["plugins=my_lab"], ["1 problem", "plugins=my_lab", "a list"]),
    (["plugins=[3]"], ["plugins=[3]", "not a list"]),
    (["callbacks.samples.num_samples=-2"], ["callbacks.samples.num_samples=-2", "at least 1"]),
    (["checkpoint.mode=best"], ["checkpoint.mode=best", "min, max"]),
    (["checkpoint.keep=0"], ["checkpoint.keep=0", "at least 1"]),
    (["checkpoint.every_steps=0"], ["checkpoint.every_steps=0", "at least 1"]),
    (["logger.wandb.mode=of"], ["logger.wandb.mode=of", "online, offline, disabled"]),
    (["logger.wandb.checkpoints=[first]"], ["logger.wandb.checkpoints", "first"]),
    (["loader.eval_batch_size=0"], ["loader.eval_batch_size=0", "at least 1"]),
    (["backbone.window=-1"], ["backbone.window=-1", "at least 1"]),
    (["encoder.num_layers=3"], ["encoder={'num_layers': 3}", "encode=[NAME]"]),
    (
        [*ROTARY, "backbone.positions.rotary.axes=[row,foo]"],
        ["backbone.positions.rotary.axes=", "a list that may hold time, row, column, index"],
    ),
    (["seed=1,2"], ["seed=1,2", "-m"]),
    (["name=a=b"], ["name=a=b"]),
    ([*ENCODED, "encode=[sound]"], ["encode=['sound'] names sound", "['image', 'text']"]),
    (["modality=[image]", "encode=[image]"], ["encode=['image'] leaves nothing for the backbone"]),
    ([*ENCODED, "encode=[text]"], ["objective.seq2seq.text=text is sent through the encoder"]),
    ([*ENCODED, "encoder.num_layrs=2"], ["encoder.num_layrs=2", "'num_layers'"]),
    ([*ENCODED, "encoder.num_layers=deep"], ["encoder.num_layers=deep", "not an integer"]),
    ([*ENCODED, "encoder.dim=64"], ["  - encoder.dim=64 must equal backbone.dim=96"]),
    ([*ENCODED, "encoder.num_heads=5"], ["encoder.dim=96", "num_heads=5"]),
    ([*ENCODED, "backbone.dim=abc"], ["1 problem in the config", "backbone.dim=abc is not an integer"]),
    ([*ENCODED, "backbone.dimm=3"], ["1 problem in the config", "backbone.dimm=3"]),
    ([*ENCODED, "backbone.num_heads=5"], ["1 problem in the config", "backbone.dim=96"]),
    ([*DOORS, "objective.action.read=action"], ["objective.action.read=action attends to 'action'", "comes before it"]),
    (
        [*DOORS, "modality=[action,state]"],
        ["objective.action.read=state attends to 'action'", "modality=[state,action]"],
    ),
    ([*DOORS, "objective.action.read=view"], ["read=view names no modality", "return, state, action"]),
    ([*DOORS, "objective.action.val_episodes=0"], ["objective.action.val_episodes=0", "at least 1"]),
    ([*DOORS, "objective.action.target_returns=[]"], ["objective.action.target_returns=[]", "null"]),
    ([*DOORS, "objective.action.temperature=-1"], ["objective.action.temperature=-1", "at least 0"]),
    (["data.augment._target_=os.system"], ["os.system", "not a class of mmtx"]),
    (["data.augment._target_=mmtx.experiment.os.system"], ["mmtx.experiment.os.system"]),
]


@pytest.mark.parametrize(("overrides", "said"), MISTAKES, ids=[" ".join(overrides) for overrides, _ in MISTAKES])
def test_a_mistake_is_named(overrides, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    chosen = any(text.startswith(("data=", "experiment=")) for text in overrides)
    assert main(["check", *overrides, *["data=digits"] * (not chosen)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in said), message
    assert "Traceback" not in message, message


def test_several_mistakes_are_reported_together_before_anything_starts(tmp_path):
    wrong = ["backbone.dimm=64", "backbone.dim=abc", "modality.image.patch_size=3", "optim.lr=-1", "data.batch_sise=3"]
    done = mmtx("train", *wrong, cwd=tmp_path)
    assert done.returncode == 2, text_of(done)
    assert all(word in done.stderr for word in wrong), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "runs").exists()


def test_a_recipe_may_speak_of_names_that_are_not_chosen():
    config = compose(["experiment=vit_digits", "modality=[text]", "objective=[next_token]"])
    assert list(config["modality"]) == ["text"]
    assert assemble(config).learner.model.names == ["text"]


def test_the_set_has_the_order_in_which_it_is_chosen():
    assert list(compose(["modality=[text,image]"])["modality"]) == ["text", "image"]


def test_null_of_a_group_chooses_nothing():
    config = compose(["data=digits", "logger=null", "callbacks=null", "lora=null"])
    assert (config["logger"], config["callbacks"], config.get("lora")) == ({}, {}, None)
    with pytest.raises(ConfigErrors, match="modality=\\[\\] is empty"):
        assemble(compose(["data=digits", "modality=null"]))


def test_a_name_may_be_folders_in_one_another():
    assert assemble(compose(["data=digits", "name='first try/日本'"])).config["name"] == "first try/日本"


def test_without_data_or_experiment_it_is_the_quickstart():
    assert compose(["seed=1"])["name"] == "quickstart"
    assert compose(["data=digits"])["name"] == "default"


@pytest.mark.parametrize(
    "target", ["os.system", "torch.load", "mmtx.nn.mlp.F.relu", "mmtx.config.construct.construct", "mmtx"]
)
def test_a_target_is_a_class_of_a_trusted_package(target):
    with pytest.raises(UserError, match="_target_"):
        resolve(target)


def test_a_sweep_is_every_combination():
    jobs = expand_sweep(["a=1,2", "b=x", "modality=[image],[image,text]"])
    assert jobs == [
        ["a=1", "b=x", "modality=[image]"],
        ["a=1", "b=x", "modality=[image,text]"],
        ["a=2", "b=x", "modality=[image]"],
        ["a=2", "b=x", "modality=[image,text]"],
    ]


def test_a_saved_config_takes_values_but_no_groups():
    config = compose([])
    assert with_overrides(config, ["optim.lr=1e-4"])["optim"]["lr"] == 1e-4
    for group in ("data=mnist", "backbone/mlp=swiglu"):
        with pytest.raises(UserError, match="swaps a group"):
            with_overrides(config, [group])


def test_errors_of_every_part_are_collected():
    config = compose([])
    config["optim"]["lr"], config["backbone"]["num_heads"], config["trainer"]["precision"] = -1, 5, "64"
    with pytest.raises(ConfigErrors) as caught:
        assemble(config)
    assert len(caught.value.findings) == 3
