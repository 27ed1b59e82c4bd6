"""BabyAI's levels: demonstrations of their bot, and the environment to act in."""

import io
import pickle
import random
import sys

import numpy
import pytest
import torch
from contracts import check_source

from mmtx.config.compose import compose
from mmtx.data.audio import synthesis
from mmtx.data.audio.synthesis import voice_names
from mmtx.data.collate import collate
from mmtx.data.episodes import babyai_demonstrations, babyai_environment, babyai_speech
from mmtx.data.episodes.babyai import BabyAI
from mmtx.data.episodes.babyai_demonstrations import episode_seed
from mmtx.data.episodes.babyai_level import Level, language
from mmtx.data.episodes.babyai_speech import SAMPLE_RATE_HZ
from mmtx.data.text.bpe import BPE
from mmtx.data.text.vocabulary import Bytes, Characters, Words
from mmtx.errors import InvalidValue, UserError
from mmtx.experiment import assemble

GO_TO = "BabyAI-GoToLocal-v0"
PUT_NEXT = "BabyAI-PutNextLocalS5N3-v0"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of this test's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mmtx" / "babyai"


def source(vocabulary=None, **changes):
    keys = {"level": GO_TO, "num_episodes": 5, "num_val": 3, "context": 3}
    keys |= {"pixels": False, "speech": False, "voices": 2, "split_seed": 0}
    return BabyAI(vocabulary=vocabulary or Words(), **(keys | changes))


def samples(split):
    return [split[i] for i in range(len(split))]


def same(one, other):
    """Of samples, or of what is in them."""
    if isinstance(one, torch.Tensor):
        return one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(same, one, other))


def episodes(split):
    """The windows of each episode of a split whose windows do not overlap, or of one that begins at every step."""
    found = []
    for sample in samples(split):
        if sample["view"]["times"][0] == 0:
            found.append([])
        found[-1].append(sample)
    return found


def played(level, seed, make=lambda environment: environment.gen_obs()["image"]):
    """What the bot does in MiniGrid itself: what is made of each state before a step, its actions, the reward."""
    from minigrid.utils.baby_ai_bot import BabyAIBot

    environment, seen, actions, over, reward = Level(level).begin(seed), [], [], False, 0
    bot = BabyAIBot(environment)
    while not over:
        seen.append(torch.from_numpy(make(environment).copy()))
        actions.append(int(bot.replan(actions[-1] if actions else None)))
        _, reward, terminated, truncated, _ = environment.step(actions[-1])
        over = terminated or truncated
    return seen, actions, reward, environment.mission


# --- the dataset ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [Words, Characters, Bytes, lambda: BPE(vocab_size=300, path=None)])
def test_contract(vocabulary):
    check_source(source(vocabulary()))
    check_source(source(vocabulary(), level=PUT_NEXT, pixels=True, num_episodes=2, num_val=1))


def test_contract_of_speech():
    check_source(source(speech=True))


@pytest.mark.parametrize("level", [GO_TO, PUT_NEXT])
def test_demonstrations_are_what_the_bot_does(level):
    data = source(level=level, context=50)
    for split, windows in (("train", data.train()), ("val", data.val())):
        for number, episode in enumerate(episodes(windows)):
            views, actions, reward, mission = played(level, episode_seed(split, number, 0, 0))
            whole = episode[0]
            assert same(whole["view"]["cells"], torch.stack(views))
            assert whole["action"]["class"].tolist() == actions
            assert whole["return"]["values"][:, 0].tolist() == pytest.approx([reward] * len(actions))
            assert whole["view"]["times"].tolist() == list(range(len(actions)))
            assert data.vocabulary.decode(whole["mission"]["ids"].tolist()) == mission


def test_training_begins_at_every_step_and_validation_after_every_window():
    train, val = episodes(source().train()), episodes(source(num_val=3).val())
    assert len(train) == 5 and len(val) == 3
    for episode in train:
        assert [int(window["view"]["times"][0]) for window in episode] == list(range(len(episode)))
        assert [len(window["view"]["times"]) for window in episode] == [
            min(3, len(episode) - i) for i in range(len(episode))
        ]
    for episode in val:
        times = torch.cat([window["action"]["times"] for window in episode])
        assert times.equal(torch.arange(len(times)))
        assert all(len(window["view"]["times"]) == 3 for window in episode[:-1])


def test_an_episode_is_a_function_of_level_seed_split_and_index():
    few, many = source(), source(num_episodes=7, num_val=4)
    assert same(samples(few.train()), samples(many.train())[: len(few.train())])
    assert same(samples(few.val()), samples(many.val())[: len(few.val())])
    assert not same(samples(few.train()), samples(source(split_seed=1).train()))
    assert not same(samples(few.train())[:5], samples(source(num_val=5, context=3).val())[:5])


def test_no_two_splits_have_a_seed_in_common():
    generator = random.Random(0)
    seeds = {
        split: {
            episode_seed(split, generator.randrange(10**6), generator.randrange(4), generator.randrange(100))
            for _ in range(3000)
        }
        for split in ("train", "val", "test")
    }
    assert all({seed % 3 for seed in held} == {place} for place, held in enumerate(seeds.values()))
    numbers = {episode_seed("train", i, seed, attempt) for i in range(9) for seed in range(3) for attempt in range(100)}
    assert len(numbers) == 9 * 3 * 100


@pytest.mark.parametrize("changes", [{}, {"pixels": True}, {"speech": True}, {"context": 1}])
def test_a_batch_is_its_samples_collated(changes):
    data = source(**changes)
    for split in (data.train(), data.val()):
        last = len(split) - 1
        for indices in ([0, last, 1, 0], [last], list(range(len(split)))):
            for specs in (data.specs, {"mission": data.specs["mission"], "action": data.specs["action"]}):
                made, want = split.batch(indices, specs), collate([split[i] for i in indices], specs, ids=indices)
                assert same(made.fields, want.fields) and same(made.lengths, want.lengths) and same(made.ids, want.ids)
                assert made.full == want.full and list(made.fields) == list(want.fields)
                types = [value.dtype for fields in made.fields.values() for value in fields.values()]
                assert types == [value.dtype for fields in want.fields.values() for value in fields.values()]


def test_batches_are_apart_from_the_data():
    data = source()
    before = samples(data.train())
    data.train().batch([0, 1], data.specs)["view"]["cells"].fill_(9)
    data.train()[0]["view"]["cells"].fill_(9)
    assert same(samples(data.train()), before)


def test_the_pixels_are_those_that_minigrid_draws():
    for level in (GO_TO, PUT_NEXT, "BabyAI-UnlockLocal-v0"):  # carries things; doors, open and shut and locked
        data = source(level=level, pixels=True, context=40, num_episodes=3, num_val=0)
        for number, episode in enumerate(episodes(data.train())):
            drawn = played(
                level, episode_seed("train", number, 0, 0), lambda environment: environment.get_pov_render(8)
            )[0]
            assert same(episode[0]["view"]["pixels"], torch.stack(drawn)[:40].permute(0, 3, 1, 2))


def test_the_specs_do_not_depend_on_the_draw():
    one, other = source(speech=True), source(split_seed=1, num_episodes=1, num_val=0, speech=True)
    assert one.vocabulary.state() == other.vocabulary.state()
    for name, spec in one.specs.items():
        assert spec.fields == other.specs[name].fields
    assert one.specs["view"].fields["times"].num_classes == one.environment(1).max_steps == 64
    assert one.specs["mission"].max_length == 9 + 2  # go to the red ball in front of you, and two marks


@pytest.mark.parametrize("level", ["GoToSeqS5R2", "PickupLoc", "OpenDoorsOrderN2", "PutNextLocal", "MiniBossLevel"])
def test_every_mission_can_be_written_within_the_bound(level):
    chosen = Level(f"BabyAI-{level}-v0")
    for vocabulary in (Words(), Characters()):
        vocabulary.fit([], marks=True, held_out=language())

        def size(text, vocabulary=vocabulary):
            return len(vocabulary.encode(text))

        longest = chosen.longest_mission(size)
        for seed in range(100, 115):
            environment = chosen.begin(seed)
            assert size(environment.mission) <= longest
            assert environment.max_steps <= chosen.max_steps


def test_limits_of_the_keys():
    data = source(num_val=0)
    returns = [float(sample["return"]["values"].max()) for sample in samples(data.train())]
    assert data.best_return == max(returns) and 0.5 < data.best_return < 1 and data.return_scale == 1
    assert data.can_play and data.reference_returns is None


def test_validation_can_be_left_out():
    assert source(num_val=0).val() is None and source().test() is None


def test_splits_can_go_to_a_process_that_was_not_forked():
    for changes in ({"speech": True}, {"pixels": True}):
        split = source(**changes).train()
        assert same(samples(pickle.loads(pickle.dumps(split))), samples(split))


# --- episodes that the bot does not solve -----------------------------------------------------------------------------


def test_episodes_that_are_not_solved_are_drawn_anew(monkeypatch):
    plain, seeds, real = source(num_episodes=3), [], babyai_demonstrations._demonstration
    monkeypatch.setattr(babyai_demonstrations, "RECIPE", -1)  # another cache

    def fails_twice(level, seed):
        seeds.append(seed)
        return None if seed in (episode_seed("train", 1, 0, 0), episode_seed("train", 1, 0, 1)) else real(level, seed)

    monkeypatch.setattr(babyai_demonstrations, "_demonstration", fails_twice)
    data = source(num_episodes=3)
    assert (plain.num_redrawn, data.num_redrawn) == (0, 2)
    assert [seed for seed in seeds if seed % 3 == 0] == [
        episode_seed("train", i, 0, attempt) for i, attempt in ((0, 0), (1, 0), (1, 1), (1, 2), (2, 0))
    ]
    one, other = episodes(plain.train()), episodes(data.train())
    assert same(one[0], other[0]) and not same(one[1], other[1]) and same(one[2], other[2])


def test_a_bot_that_gives_up_solves_nothing(monkeypatch):
    from minigrid.utils.baby_ai_bot import BabyAIBot

    monkeypatch.setattr(BabyAIBot, "replan", lambda *_: 6)  # waits until its time is up
    assert babyai_demonstrations._demonstration(Level(GO_TO), 0) is None

    def fail(*_):
        raise AssertionError("nothing left to explore")

    monkeypatch.setattr(BabyAIBot, "replan", fail)
    assert babyai_demonstrations._demonstration(Level(GO_TO), 0) is None
    with pytest.raises(InvalidValue, match="^level=BabyAI-GoToLocal-v0 is not for MiniGrid's bot: it solved none of"):
        source()


# --- the environment --------------------------------------------------------------------------------------------------


def rolled(environment, seeds, actions):
    """What is seen before each step, and the outcomes; who has no action left does nothing (6)."""
    observation, constants = environment.reset(seeds)
    seen, outcomes = [observation], []
    for step in range(max(map(len, actions))):
        chosen = [own[step] if step < len(own) else 6 for own in actions]
        outcomes.append(environment.step(torch.tensor(chosen)))
        seen.append(outcomes[-1].observation)
    return seen, outcomes, constants


@pytest.mark.parametrize("changes", [{}, {"pixels": True}, {"level": PUT_NEXT}])
def test_the_actions_of_the_data_lead_through_its_views(changes, monkeypatch):
    data = source(num_episodes=4, context=50, **changes)
    whole = [episode[0] for episode in episodes(data.train())]
    monkeypatch.setattr(
        babyai_environment, "episode_seed", lambda _, number, *rest: episode_seed("train", number, *rest)
    )
    actions = [sample["action"]["class"].tolist() for sample in whole]
    seen, outcomes, constants = rolled(data.environment(4), range(4), actions)
    assert len({len(own) for own in actions}) > 1
    for i, sample in enumerate(whole):
        steps = len(actions[i])
        views = {key: value for key, value in sample["view"].items() if key != "times"}
        for key, value in views.items():
            assert same(torch.stack([seen[step][i]["view"][key] for step in range(steps)]), value)
        rewards = torch.stack([outcome.reward[i] for outcome in outcomes])
        assert rewards[steps - 1] == sample["return"]["values"][0, 0] and rewards.count_nonzero() == 1
        assert [bool(outcome.over[i]) for outcome in outcomes] == [step >= steps - 1 for step in range(len(outcomes))]
        assert [bool(outcome.success[i]) for outcome in outcomes] == [bool(outcome.over[i]) for outcome in outcomes]
        assert same(constants[i], {"mission": sample["mission"]})


def test_the_environments_episodes_are_others_and_the_same_for_all_split_seeds():
    one, other = source().environment(3), source(split_seed=1).environment(3)
    seen, constants = one.reset([0, 1, 2])
    assert same(seen, other.reset([0, 1, 2])[0])
    assert same(seen[0]["view"]["cells"], played(GO_TO, episode_seed("test", 0, 0, 0))[0][0])
    assert set(seen[0]) == {"view"} and set(seen[0]["view"]) == {"cells"} and set(constants[0]) == {"mission"}


def test_neighbours_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(0, 7, (3, 30), generator=generator).tolist()
    environment = source(level=PUT_NEXT).environment(3)
    seen, outcomes, constants = rolled(environment, [4, 9, 2], actions)
    for i, seed in enumerate([4, 9, 2]):
        alone = rolled(environment, [seed], [actions[i]])
        assert same([step[i] for step in seen], [step[0] for step in alone[0]])
        assert [float(outcome.reward[i]) for outcome in outcomes] == [float(each.reward) for each in alone[1]]
        assert same(constants[i], alone[2][0])


def test_time_runs_out():
    environment = source(level="BabyAI-GoToObjS4-v0").environment(2)
    _, outcomes, _ = rolled(environment, [0, 1], [[6] * 18] * 2)
    over = torch.stack([outcome.over for outcome in outcomes])
    assert environment.max_steps == 16 and over[15:].all() and not over[:15].any()
    assert not outcomes[-1].success.any() and not torch.stack([outcome.reward for outcome in outcomes]).any()


def test_observations_are_apart_from_the_environment():
    environment = source().environment(1)
    first = environment.reset([0])[0]
    kept = first[0]["view"]["cells"].clone()
    for action in (1, 2, 1, 2):
        environment.step(torch.tensor([action]))
    assert same(first[0]["view"]["cells"], kept)


def test_a_frame_shows_the_grid():
    environment = source().environment(2)
    environment.reset([0, 1])
    frame = environment.frame(1)
    assert frame.shape == (3, 128, 128) and 0 <= frame.min() < frame.max() <= 1
    assert not same(frame, environment.frame(0))


def test_more_seeds_than_episodes_are_refused():
    with pytest.raises(ValueError, match="3 seeds for 2 episodes"):
        source().environment(2).reset([0, 1, 2])


# --- speech -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "spoken"), [("mission,view,action", False), ("speech,view,action", True)])
def test_the_set_decides_whether_missions_are_said_aloud(names, spoken):
    keys = ["experiment=babyai_local", f"modality=[{names}]"]
    assert compose(keys)["data"]["speech"] is spoken
    assert compose([*keys, f"data.speech={not spoken}"])["data"]["speech"] is not spoken


def test_missions_are_said_by_the_speakers_of_the_split(monkeypatch):
    said = []
    monkeypatch.setattr(babyai_speech, "synthesise", lambda *how: said.append(how) or synthesis.synthesise(*how))
    data = source(speech=True, num_episodes=6, num_val=4)
    clips = len(said)
    environment = data.environment(4)
    _, constants = environment.reset([0, 1, 2, 3])
    assert {rate for _, _, rate in said} == {SAMPLE_RATE_HZ}
    learnt = {voice.name for _, voice, _ in said[:clips]}
    assert learnt & set(voice_names("train")) and learnt & set(voice_names("val"))
    assert learnt <= {*voice_names("train"), *voice_names("val")}
    assert {voice.name for _, voice, _ in said[clips:]} <= set(voice_names("test"))
    texts = [text for text, _, _ in said[clips:]]
    assert {data.vocabulary.decode(each["mission"]["ids"].tolist()) for each in constants} == set(texts)
    again = environment.reset([0, 1, 2, 3])[1]
    assert same(constants, again) and len(said) - clips == len(texts), "the environment remembers what was said"
    by_text = {text: synthesis.synthesise(text, voice, SAMPLE_RATE_HZ) for text, voice, _ in said}
    for sample in samples(data.train()):
        assert data.vocabulary.decode(sample["mission"]["ids"].tolist()) in by_text


def test_speech_is_of_the_mission_and_the_voice():
    data = source(level="BabyAI-GoToRedBallGrey-v0", speech=True, num_val=0)
    said = [episode[0]["speech"]["waveform"] for episode in episodes(data.train())]
    assert same(said[0], said[2]) and same(said[1], said[3]) and not same(said[0], said[1]), "two voices take turns"
    clip = data._speakers["train"].say("go to the red ball", 1)
    assert same(said[1], clip.float() / 32767) and len(clip) <= data.specs["speech"].max_length


# --- the cache --------------------------------------------------------------------------------------------------------


def refuse(*_):
    raise AssertionError("it was in the cache")


def everything(data):
    return [*samples(data.train()), *samples(data.val())]


def test_the_second_time_episodes_come_from_the_cache(cache, monkeypatch):
    fresh = everything(source(speech=True))
    assert len(list(cache.iterdir())) == 4
    monkeypatch.setattr(babyai_demonstrations, "_demonstration", refuse)
    monkeypatch.setattr(babyai_speech, "synthesise", refuse)
    assert same(everything(source(speech=True)), fresh)
    assert source(num_val=0, context=5, pixels=True).num_redrawn == 0
    for changes in ({"split_seed": 1}, {"level": PUT_NEXT}, {"num_episodes": 6}, {"speech": True, "voices": 3}):
        with pytest.raises(AssertionError, match="it was in the cache"):
            source(**changes)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "array", "fewer"])
def test_a_damaged_cache_is_made_anew(cache, capfd, damage):
    fresh = samples(source(num_val=0, speech=True, voices=1).train())
    contents = {file: file.read_bytes() for file in cache.iterdir()}
    source(num_val=0, num_episodes=2, speech=True, voices=1)
    others = [file.read_bytes() for file in cache.iterdir() if file not in contents]
    array = io.BytesIO()
    numpy.save(array, numpy.zeros(3))
    for file, content in contents.items():
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        fewer = next(other for other in others if (b"offsets" in other) == (b"offsets" in content))
        damaged = {"empty": b"", "cut": content[:middle], "flipped": flipped, "array": array.getvalue(), "fewer": fewer}
        file.write_bytes((damaged | {"other": pickle.dumps("not arrays")})[damage])
        capfd.readouterr()
        assert same(samples(source(num_val=0, speech=True, voices=1).train()), fresh)
        printed = capfd.readouterr().err
        assert printed.startswith(f"mmtx: {file} cannot be read (") and printed.endswith("); it is generated again\n")
        assert printed.count("\n") == 1 and file.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_no_error(cache, capfd):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert len(source().train()) > 5
    assert f"{cache}" in capfd.readouterr().err


# --- what the user can mend -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["minigrid", "gymnasium"])
def test_a_missing_package_is_named_with_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"acts in MiniGrid, which is not installed .*pip install 'mmtx\[rl\]'"):
        source()


def test_a_level_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(InvalidValue, match="^level=BabyAI-GotoLocal-v0 is not a BabyAI level.*'BabyAI-GoToLocal-v0'"):
        source(level="BabyAI-GotoLocal-v0")


@pytest.mark.parametrize(
    "key, value, limit",
    [
        ("num_episodes", 0, "1..1000000"),
        ("num_val", -1, "0..1000000"),
        ("context", 0, "1..64"),
        ("context", 65, "1..64"),
        ("voices", 0, "1..1000"),
        ("split_seed", -1, "0..2147483647"),
    ],
)
def test_bad_values_are_named(key, value, limit):
    with pytest.raises(InvalidValue, match=f"^{key}={value} must lie in {limit}; nearest: "):
        source(**{key: value})


@pytest.mark.slow
def test_an_agent_learns_from_episodes_that_it_plays():
    """The recipe, by overrides: windows are those of the view, missions stand before them, and a mission that is done
    pays what BabyAI pays."""
    words = ["experiment=babyai", "objective=[action_by_return]", "objective.action_by_return.read=view"]
    words += ["data.num_episodes=5", "data.num_val=3", "data.level=BabyAI-GoToRedBallNoDists-v0", "data.context=3"]
    words += ["objective.action_by_return.group=4", "backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2"]
    experiment = assemble(compose([*words, "loader.batch_size=2", "loader.num_workers=0", "trainer.accelerator=cpu"]))
    learner = experiment.learner.train()
    (batch,) = next(iter(experiment.data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)))
    prepared = learner.prepare(batch, torch.Generator().manual_seed(0))
    score = learner(prepared)["action_by_return"]
    score.loss_sum.backward()
    played, limit = prepared["action_by_return"]["rollouts"], Level("BabyAI-GoToRedBallNoDists-v0").max_steps
    steps, earned = played["steps"], played["reward"].sum(-1)
    assert steps.shape == (2, 4) and ((steps >= 1) & (steps <= limit)).all() and score.count == steps.sum()
    torch.testing.assert_close(earned, torch.where(earned > 0, 1 - 0.9 * steps / limit, 0.0))
    assert (earned > 0).any(), "chance does some missions"
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in learner.model.tokenizers["mission"].parameters())
