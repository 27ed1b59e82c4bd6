"""``mmtx generate``."""

from __future__ import annotations

from mmtx.commands.arguments import RUN, parse, refuse

HELP = """\
usage: mmtx generate RUN|CKPT [key=value ...]

prompt, image, audio, part and out are taken letter by letter; the others are values as in 'mmtx train'.

  prompt=TEXT           what to continue, or to translate; needed where the text is a stream
  image=FILE            a picture to write about, where the set has one
  audio=FILE            what is said in a sound file, with times; of a folder or a manifest (.csv, .jsonl) as JSONL
  index=N               or: sample N of the run's test (or validation) part
  max_new_tokens=N      upper limit; 200 where a text goes on
  seed=0                the same seed gives the same text, or the same episodes: it is the first one's, others count up
  temperature=1.0       0 takes the best id each time
  top_k=null top_p=null keep the k best; the smallest set of probability p
  beam_size=null        beam search, for models that write a whole text (objective=[seq2seq]); null: as trained
  length_penalty=null   above 0 longer texts gain
  resample=false        convert a sound of another rate than the model hears
  overlap_seconds=1.0   of the windows that a long recording is cut into
  cache=true            keep keys and values (the text is the same without, only slower)

of a model that acts (objective=[action]), a line of JSON for every episode, and one that sums them up:
  part=NAME             of a mixture, where it is to act: needed where several parts can be acted in
  episodes=10           of each return that is asked for
  target_return=null    what to ask for, one or several: target_return=[500,100]; null: as the run's objective says
  out=FILE.gif          a film of the first episode
"""


def run(arguments: list[str]) -> int:
    from mmtx.write.command import DEFAULTS, TEXTS, write

    (path,), options, others = parse(arguments, RUN, DEFAULTS, TEXTS)
    refuse(others, DEFAULTS)
    print(write(path, options))
    return 0
