"""From one config to the objects of a run, with everything that is wrong reported together."""

from mmtx.experiment.assemble import Experiment, assemble, build
from mmtx.experiment.collector import Collector
from mmtx.experiment.fit_objectives import fit_objectives
from mmtx.experiment.learner import model_part, rebuild
from mmtx.experiment.source import construct_source, data_module, data_part

__all__ = [
    "Collector",
    "Experiment",
    "assemble",
    "build",
    "construct_source",
    "data_module",
    "data_part",
    "fit_objectives",
    "model_part",
    "rebuild",
]
