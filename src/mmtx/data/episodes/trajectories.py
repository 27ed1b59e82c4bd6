"""Trajectories in a file of the user's, or in a folder of Minari or LeRobot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from mmtx.data.episodes.episode_source import EpisodeSource, Windowing
from mmtx.data.episodes.gym_environment import GymEnvironment, check_env
from mmtx.data.episodes.recorded_steps import concatenate_episodes
from mmtx.data.episodes.trajectory_files import checked_reference, read_trajectories, steps_file
from mmtx.environment import Environment
from mmtx.errors import InvalidValue, UserError


class Trajectories(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.EpisodeSource`.

    The file is an ``.npz`` or HDF5 (``.hdf5``, ``.h5``) with ``observations actions rewards terminations`` and perhaps
    ``truncations`` of all steps of all episodes end to end; D4RL's ``terminals`` and ``timeouts`` are the same. An
    episode ends where one of the two is true; steps after the last end are skipped, as their return is unknown. Or it
    is the folder of a Minari dataset, in its HDF5 format; or that of a LeRobot dataset, or a Parquet file of one, with
    ``action episode_index frame_index`` and perhaps ``next.reward``, without which rewards are 0. Actions are classes
    where they are integers, one a step, and numbers where they are floats. Nothing is ever unpickled.

    Args:
        path: the file or folder.
        env: id of the Gymnasium environment that a model acts in; null: that of a Minari dataset, or none.
        env_options: with which it is made, such as ``{obs_type: state}``.
        observations: columns of Parquet files that together are the state, in this order; null: ``observation.state``.
        num_actions: classes of discrete actions; null: those of a Minari dataset, or as many as occur.
        reference_returns: of a random and of an expert policy; null: those of a Minari dataset, or none.
        The other keys are those of `Windowing`.
    """

    def __init__(
        self,
        *,
        path: str,
        env: str | None,
        num_actions: int | None,
        reference_returns: list[float] | None,
        context: int,
        max_steps: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
        env_options: Mapping[str, str | float | int | bool] = MappingProxyType({}),  # absent in earlier configs
        observations: Sequence[str] | None = None,  # this too
    ) -> None:
        windowing = Windowing(context, max_steps, return_scale, val_fraction, split_seed)
        if num_actions is not None and num_actions < 1:
            raise InvalidValue("num_actions", num_actions, "must be at least 1, or null")
        reference = None if reference_returns is None else checked_reference("reference_returns", reference_returns)
        if env is not None:
            check_env(env)
        file = Path(path).expanduser()
        recording = read_trajectories(file, observations)
        self.env, self.env_options = env or recording.env, dict(env_options)
        if self.env_options and self.env is None:
            raise InvalidValue("env_options", self.env_options, "are of an environment, and there is none", "{}")
        self.can_play, self.reference_returns = self.env is not None, reference or recording.reference_returns
        episodes = concatenate_episodes(
            recording.steps,
            where=str(file),
            num_actions=recording.num_actions if num_actions is None else num_actions,
            max_steps=max_steps,
        )
        found = episodes.num_actions
        if found is not None and num_actions is None:
            count = self.fitted.statistic("action", "classes", lambda: found, partial(_more_classes, found))
            episodes = replace(episodes, num_actions=count)
        super().__init__(episodes, windowing)
        if self.env is not None:
            self._check_environment(self.env, file, is_named=env is not None)

    def environment(self, num_episodes: int) -> Environment:
        """Copies of the environment.

        Raises:
            UserError: the data name no environment, it cannot be made, or its spaces are not those of the data.
        """
        if self.env is None:
            raise UserError("data.env=null: there is nothing to act in; give the Gymnasium environment of the data")
        return GymEnvironment(self, self.env, num_episodes, self.env_options)

    def _check_environment(self, env: str, file: Path, *, is_named: bool) -> None:
        """Makes an environment now rather than at the first validation, so that errors come early."""
        try:
            GymEnvironment(self, env, 1, self.env_options).close()
        except UserError as error:
            if is_named:
                raise
            hint = f"to learn without acting, read its steps alone: data=trajectories data.path={steps_file(file)}"
            raise UserError(f"{error}; it is the environment that {file} names; {hint}") from None


def _more_classes(found: int, saved: int) -> str | None:
    return None if found <= saved else f"this data has {found} classes, and that of the run {saved}"
