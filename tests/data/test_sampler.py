"""Which sample comes when does not depend on who asks, and neither does what is in it."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from itertools import chain

import numpy
import pytest
import torch

from mmtx.batch import Field, Spec
from mmtx.data.base import Samples, Source
from mmtx.data.loaders import DataModule
from mmtx.data.mixture import Mixture
from mmtx.data.sampler import EvalSampler, Order, TrainSampler, hash_seed
from mmtx.data.seeding import seed_step
from mmtx.data.worker import CurrentSamples
from mmtx.errors import InvalidValue, UserError


class Noisy(Source):
    """Numbers, each with noise from every global generator."""

    def __init__(self, length=23, val_length=7):
        self.length, self.val_length = length, val_length

    @property
    def specs(self):
        return {
            "number": Spec({"value": Field((), torch.long)}),
            "noise": Spec({"values": Field((3,), torch.float64)}),
        }

    def _make(self, i):
        noise = [random.random(), float(numpy.random.rand()), float(torch.rand((), dtype=torch.float64))]
        return {"number": {"value": torch.tensor(i)}, "noise": {"values": torch.tensor(noise, dtype=torch.float64)}}

    def train(self):
        return Samples(self.length, self._make)

    def val(self):
        return Samples(self.val_length, self._make)

    def test(self):
        return None


def module(
    source=None,
    seed=3,
    batch_size=4,
    eval_batch_size=None,
    num_workers=0,
    names=("number", "noise"),
    on_bad_sample="raise",
    packing=False,
):
    return DataModule(
        source=source or Noisy(),
        names=list(names),
        seed=seed,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        num_workers=num_workers,
        packing=packing,
        on_bad_sample=on_bad_sample,
        max_bad_share=0.5,
    )


def steps(order, *, num_steps=7, batch_size=2, accumulate=1, rank=0, num_ranks=1, first_step=0):
    return list(
        TrainSampler(
            order,
            num_steps=num_steps,
            batch_size=batch_size,
            accumulate=accumulate,
            rank=rank,
            num_ranks=num_ranks,
            first_step=first_step,
        )
    )


def test_hash_seed_distinguishes_its_numbers():
    numbers = [hash_seed(a, b, c) for a in range(12) for b in range(12) for c in range(12)]
    assert len(set(numbers)) == 12**3
    assert all(0 <= number < 2**63 for number in numbers)
    assert hash_seed(-1, 2**64 + 5) == hash_seed(2**64 - 1, 5), "any integer will do"


def test_the_stream_is_a_function_of_seed_and_place():
    whole = list(Order(10, seed=1).draws(0, 35))
    assert whole == list(Order(10, seed=1).draws(0, 35))
    assert whole[13:31] == list(Order(10, seed=1).draws(13, 31))
    assert list(Order(10, seed=1).draws(20, 20)) == []
    assert whole != list(Order(10, seed=2).draws(0, 35))
    assert [draw.epoch for draw in whole] == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 5


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own():
    draws = list(Order(50, seed=1).draws(0, 150))
    epochs = [[draw.index for draw in draws if draw.epoch == epoch] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != sorted(epochs[2])


def test_the_order_does_not_read_or_change_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = list(Order(50, seed=1).draws(0, 60))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert list(Order(50, seed=1).draws(0, 60)) == first


@pytest.mark.parametrize("num_samples", [1, 3, 10, 64])
def test_training_goes_along_the_stream_and_drops_nothing(num_samples):
    order = Order(num_samples, seed=5)
    taken = list(chain.from_iterable(steps(order, num_steps=9, batch_size=3, accumulate=2)))
    assert taken == list(order.draws(0, 9 * 3 * 2))
    counts = Counter((draw.epoch, draw.index) for draw in taken)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("num_ranks, accumulate", [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_ranks_and_accumulation_give_the_same_global_batches(num_ranks, accumulate):
    order = Order(17, seed=5)
    alone = steps(order, accumulate=6)
    ranks = [steps(order, accumulate=accumulate, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    for step, whole in enumerate(alone):
        blocks = [ranks[rank][step][2 * m : 2 * m + 2] for m in range(accumulate) for rank in range(num_ranks)]
        assert list(chain.from_iterable(blocks)) == whole
        assert all(len(rank[step]) == 2 * accumulate for rank in ranks)


def test_a_run_that_continues_takes_what_would_have_come():
    order = Order(11, seed=5)
    arguments = {"num_steps": 12, "accumulate": 2, "rank": 1, "num_ranks": 2}
    assert steps(order, **arguments, first_step=5) == steps(order, **arguments)[5:]
    assert len(TrainSampler(order, num_steps=12, batch_size=2, accumulate=1, rank=0, num_ranks=1, first_step=5)) == 7


@pytest.mark.parametrize("num_samples", [0, 1, 7, 8, 9, 24])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_evaluation_covers_everything_once_in_equal_numbers_of_batches(num_samples, num_ranks):
    samplers = [EvalSampler(num_samples, batch_size=4, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    batches = [list(sampler) for sampler in samplers]
    assert len({len(rank) for rank in batches}) == 1 and len(batches[0]) == len(samplers[0])
    taken = sorted(draw.index for rank in batches for batch in rank for draw in batch)
    assert taken == list(range(num_samples))
    assert all(len(batch) <= 4 for rank in batches for batch in rank)


def test_evaluation_batches_of_all_ranks_have_something_to_collate():
    loaders = [module().eval_loaders("val", rank=rank, num_ranks=3)[""] for rank in range(3)]
    batches = [[batch for item in loader for batch in item] for loader in loaders]
    assert [len(rank) for rank in batches] == [1, 1, 1]
    assert [rank[0].ids.tolist() for rank in batches] == [[0, 1, 2, 3], [4, 5, 6], [-1]]
    assert batches[2][0].lengths["number"].tolist() == [0]
    assert module().eval_loaders("test", rank=0, num_ranks=1) == {}


def training(num_workers=0, num_ranks=1, accumulate=2, num_steps=12, first_step=0, seed=3):
    """Of every step: ``{(epoch's order of the sample): its noise}``, joined over ranks."""
    loaded = module(num_workers=num_workers, seed=seed)
    loaders = [
        loaded.train_loader(
            num_steps=num_steps, accumulate=accumulate, rank=rank, num_ranks=num_ranks, first_step=first_step
        )
        for rank in range(num_ranks)
    ]
    joined = []
    for items in zip(*loaders, strict=True):
        micro = [item[m] for m in range(accumulate) for item in items]
        assert all(len(item) == accumulate for item in items) and all(len(batch) == 4 for batch in micro)
        joined.append((torch.cat([b.ids for b in micro]), torch.cat([b["noise"]["values"] for b in micro])))
    return joined


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_batches_do_not_depend_on_the_number_of_workers():
    assert same(training(num_workers=0), training(num_workers=2))


def test_batches_do_not_depend_on_ranks_and_where_a_run_was_continued():
    alone = training(num_ranks=1, accumulate=2)
    assert same(alone, training(num_ranks=2, accumulate=1))
    assert same(alone[5:], training(first_step=5))
    assert not same(alone, training(seed=4))


def test_augmentation_is_drawn_anew_for_every_sample_and_epoch():
    items = training(num_steps=12)  # 96 samples of 23: more than four epochs
    noise = torch.cat([noise for _, noise in items])
    assert all(len(noise[:, generator].unique()) == len(noise) for generator in range(3))


class Failing(Noisy):
    def _make(self, i):
        super()._make(i)
        raise InvalidValue("path", i, "is damaged")


def states():
    return torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_fetching_leaves_the_generators_of_the_process_alone(split, num_workers, unchecked):
    """Type checks would draw from Python's generator."""
    data, before = module(num_workers=num_workers), states()
    if split == "train":
        list(data.train_loader(num_steps=3, accumulate=1, rank=0, num_ranks=1))
    else:
        list(data.eval_loaders("val", rank=0, num_ranks=1)[""])
    assert states() == before


def test_a_sample_that_fails_leaves_the_generators_of_the_process_alone(unchecked):
    before = states()
    with pytest.raises(UserError):
        list(module(Failing()).train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1))
    assert states() == before


def test_a_fingerprint_is_of_the_number_of_samples_and_of_eight_of_them():
    """Of 23, those are at whole parts of i * 22 / 7."""

    class Changed(Noisy):
        def __init__(self, changed):
            super().__init__()
            self.changed = changed

        def _make(self, i):
            made = super()._make(i)
            return made | ({"number": {"value": torch.tensor(-1)}} if i == self.changed else {})

    here = module().fingerprint()
    assert {split: found["samples"] for split, found in here.items()} == {"train": 23, "val": 7}
    seen = [i for i in range(23) if module(Changed(i)).fingerprint()["train"] != here["train"]]
    assert seen == [0, 3, 6, 9, 12, 15, 18, 22]


def test_a_step_seeds_every_generator_by_seed_step_and_rank():
    def drawn(*place):
        seed_step(*place)
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    first = drawn(1, 2, 3)
    assert drawn(1, 2, 3) == first
    for place in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert all(one != other for one, other in zip(drawn(*place), first, strict=True))


def test_only_the_requested_names_are_loaded():
    loader = module(names=["number"]).train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    assert set(next(iter(loader))[0].fields) == {"number"}


@pytest.mark.parametrize("key", ["batch_size", "eval_batch_size", "num_workers"])
def test_bad_values_are_named(key):
    with pytest.raises(InvalidValue, match=f"^{key}=-1 "):
        module(**{key: -1})


def test_nothing_to_learn_from_is_a_user_error():
    with pytest.raises(UserError, match="Noisy has no training samples"):
        module(Noisy(length=0))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_users_mistake_arrives_with_its_sample(num_workers):
    data = module(Failing(), num_workers=num_workers)
    with pytest.raises(UserError, match=r"^sample \d+: path=.* is damaged$"):
        list(data.train_loader(num_steps=2, accumulate=1, rank=0, num_ranks=1))


class Deadly(Noisy):
    """Sample 11 is the end of the worker that makes it."""

    def _make(self, i):
        if i == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._make(i)


def test_what_a_worker_was_on_when_it_died_is_known():
    data = module(Deadly(), num_workers=2)
    try:  # keeps no traceback, which would keep the other worker
        message = str(list(data.train_loader(num_steps=6, accumulate=1, rank=0, num_ranks=1)))
    except RuntimeError as error:
        message = str(error)
    assert data.current.samples(message) == [11]


def test_what_workers_that_hang_are_on_is_known():
    current = CurrentSamples()
    hangs = multiprocessing.get_context("fork").Process(target=lambda: (current.record(7), time.sleep(60)), daemon=True)
    idle = multiprocessing.get_context("fork").Process(target=lambda: (current.record(-1), time.sleep(60)), daemon=True)
    for worker in (hangs, idle):
        worker.start()
    deadline = time.monotonic() + 30
    while current.samples("DataLoader timed out") != [7]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for worker in (hangs, idle):
        worker.kill()
        worker.join()
    assert current.samples("DataLoader timed out") == []


class Million(Source):
    """A million samples, which cost nothing to make."""

    specs = {"number": Spec({"value": Field((), torch.long)})}

    def train(self):
        return Samples(10**6, lambda i: {"number": {"value": torch.tensor(i)}})

    def val(self):
        return None

    def test(self):
        return None


def first_batch_seconds(source, first_step):
    data, begun = module(source, names=["number"], batch_size=64), time.process_time()
    loader = data.train_loader(num_steps=10**6, accumulate=1, rank=0, num_ranks=1, first_step=first_step)
    next(iter(loader))
    return time.process_time() - begun


def test_deep_in_an_epoch_the_first_batch_is_there_as_soon_as_at_its_start():
    at_once = {"parts": {"one": Million()}, "weights": {}, "temperature": None, "schedule_samples": None, "names": {}}
    for source in (Million(), Mixture(**at_once)):
        seconds = {step: min(first_batch_seconds(source, step) for _ in range(3)) for step in (0, 900_000 // 64)}
        assert seconds[900_000 // 64] - seconds[0] < 0.2, seconds
