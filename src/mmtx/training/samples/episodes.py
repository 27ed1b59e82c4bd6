"""Episodes of the test as a person would look at them: films, all results, and target returns against achieved ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mmtx.acting.policy_eval import record, summed_up
from mmtx.acting.video import write_gif
from mmtx.decoding.rollouts import Episode
from mmtx.environment import FIRST_SEED, Playable

STRIP_FRAMES, FRAME_INCHES = 8, 2.0


def show_episodes(folder: Path, step: int, source: Playable, played: Sequence[Sequence[Episode]]) -> dict[str, Path]:
    """Writes a line for every episode, a film and a strip of those that were filmed, and where there are several target
    returns, a picture of them against those that were achieved. Gives the pictures by name.

    Args:
        folder: made if it is not there.
        step: of the training.
        source: the data.
        played: the episodes of the test, for each target return.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record(episode, FIRST_SEED["test"] + i)) for some in played for i, episode in enumerate(some)]
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shown: dict[str, Path] = {}
    filmed = [episode for episode in played[0] if episode.frames]
    if filmed:
        shown["film"] = folder / f"episode_step{step:06d}.gif"
        shown["episode"] = shown["film"].with_suffix(".png")
        write_gif(shown["film"], [episode.frames for episode in filmed])
        _draw_strip(filmed, shown["episode"])
    if len(played) > 1:
        shown["target_return"] = folder / f"target_return_step{step:06d}.png"
        _draw_target_returns(source, played, shown["target_return"])
    return shown


def _draw_strip(episodes: Sequence[Episode], path: Path) -> None:
    """A row for each episode: its first frame, its last, and some between."""
    from matplotlib.figure import Figure

    height, width = episodes[0].frames[0].shape[1:]
    row_inches = FRAME_INCHES * height / width + 0.3
    longest = min(STRIP_FRAMES, max(len(episode.frames) for episode in episodes))
    figure = Figure(figsize=(FRAME_INCHES * max(longest, 2), row_inches * len(episodes)), layout="constrained")
    rows = figure.subfigures(len(episodes), squeeze=False)[:, 0]
    for row, episode in zip(rows, episodes, strict=True):
        row.suptitle(_title(episode), fontsize=10)
        count = min(STRIP_FRAMES, len(episode.frames))
        for column, index in enumerate(torch.linspace(0, len(episode.frames) - 1, count).round().int().tolist()):
            axes = row.add_subplot(1, longest, column + 1)
            axes.imshow(episode.frames[index].permute(1, 2, 0).numpy())
            axes.set_xticks([])
            axes.set_yticks([])
    figure.savefig(path, dpi=80)


def _title(episode: Episode) -> str:
    target = "" if episode.target_return is None else f"target {episode.target_return:g}, "
    done = "" if episode.success is None else ", done" if episode.success else ", not done"
    return f"{target}returned {episode.earned:.4g} in {episode.length} steps{done}"


def _draw_target_returns(source: Playable, played: Sequence[Sequence[Episode]], path: Path) -> None:
    """Target returns, and means and standard deviations of the achieved ones."""
    from matplotlib.figure import Figure

    targets = [some[0].target_return or 0.0 for some in played]
    sums = [summed_up(source, some) for some in played]
    means, spread = ([each[key] for each in sums] for key in ("return", "return_sd"))
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([min(targets), max(targets)], [min(targets), max(targets)], color="grey", linewidth=1, label="target")
    known = [("best", source.best_return, ":"), ("mean", source.mean_return, "--")]
    for name, value, line in known:
        if value is not None:
            axes.axhline(value, color="tab:orange", linestyle=line, label=f"{name} return of the data, {value:.4g}")
    label = f"achieved, mean and sd of {len(played[0])}"
    axes.errorbar(targets, means, spread, fmt="o", color="tab:blue", capsize=4, label=label)
    axes.set_xlabel("target return")
    axes.set_ylabel("achieved return")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
