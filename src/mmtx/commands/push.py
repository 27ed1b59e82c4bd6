"""``mmtx push``."""

from mmtx.commands.arguments import Paths, take
from mmtx.errors import UserError, nearest

HELP = """\
usage: mmtx push RUN|FOLDER owner/name [--private] [--revision BRANCH] [--format mmtx|hf] [--license ID]

Uploads a model with its card to a hub, in one commit, by huggingface_hub (extra `hub`). It is used from there as from a
folder: init_from=hub://owner/name, mmtx evaluate hub://owner/name, and so on; @revision behind it is a branch, a tag or
a commit. A run that begins with it keeps its commit and the hash of every file.

  --format mmtx    of a run, weights and all that mmtx knows of them, to the bit (the default)
  --format hf      of a run, the files of its public family, for `transformers`
  --private        the repository is seen by its owner alone
  --revision NAME  a branch other than main, made if it is missing
  --license ID     of the weights, as the hub names it: apache-2.0

FOLDER is one that `mmtx export` has written; its files of a model are uploaded, and no others. HF_TOKEN, HF_ENDPOINT,
HF_HOME and HF_HUB_OFFLINE mean what they mean to huggingface_hub.
"""

PATHS = Paths(2, 2, "name a run or a folder and where it goes: mmtx push RUN owner/name")


def run(arguments: list[str]) -> int:
    from mmtx.hub.address import MAIN, SCHEME, Address
    from mmtx.hub.upload import page
    from mmtx.run.push import FORMS, push

    private, rest = "--private" in arguments, [each for each in arguments if each != "--private"]
    revision, rest = take(rest, "--revision", "a branch: --revision v2")
    form, rest = take(rest, "--format", "a format: --format hf")
    license, rest = take(rest, "--license", "a licence: --license apache-2.0")
    if form is not None and form not in FORMS:
        raise UserError(f"--format {form}: a hub takes no such format; {nearest(form, FORMS)}")
    PATHS.check(rest)
    place, repository = rest
    if "@" in repository:
        raise UserError(f"{repository}: give the branch as --revision {repository.partition('@')[2] or MAIN}")
    address = Address.parse(f"{SCHEME}{repository.removeprefix(SCHEME)}@{revision or MAIN}")
    done = push(place, address, form=form, private=private, license=license)
    print(f"uploaded: {done}")
    print(f"to look at: {page(done)}")
    return 0
