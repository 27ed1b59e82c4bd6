"""Seeds of random generators: of the augmentation of a sample, and of an optimiser step."""

import random

import numpy
import torch

from mmtx.data.sampler import Draw, hash_seed


def seed_sample(seed: int, draw: Draw) -> None:
    """Seeds the CPU generators for one sample, so that its augmentation does not depend on the process or the time."""
    _seed_cpu(hash_seed(seed, draw.epoch, draw.index))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds every generator for one optimiser step of one rank: dropout is a function of these three, and a run that
    is resumed needs no generator's state."""
    number = hash_seed(seed, step, rank)
    _seed_cpu(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def block_generator(seed: int, step: int, block: int, device: torch.device) -> torch.Generator:
    """A generator for one block of an optimiser step (`TrainSampler`), whichever rank has it, apart from those that
    `seed_step` seeds, so that what an objective draws from it leaves dropout as it is."""
    return torch.Generator(device).manual_seed(hash_seed(seed, step, block, 1))


def _seed_cpu(number: int) -> None:
    torch.default_generator.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number & 0xFFFFFFFF)
