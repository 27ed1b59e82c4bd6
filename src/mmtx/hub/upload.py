"""Uploads the files of a model to a hub, in one commit."""

from pathlib import Path

from mmtx.errors import UserError
from mmtx.hub.address import MAIN, Address
from mmtx.hub.model_files import holds_weights, is_of_a_model
from mmtx.hub.snapshot import forget_commits
from mmtx.hub.user_errors import as_user_errors


def upload(folder: Path, address: Address, *, private: bool = False) -> Address:
    """Makes a model the one of a branch; files of an earlier one that are not among its own go. Repository and
    branch are made where they are missing.

    Args:
        folder: whose files of a model are uploaded, and no others.
        address: the revision is a branch.
        private: whether a new repository is; one that is there has to be.

    Returns:
        The address of the new commit.

    Raises:
        UserError: nothing has changed there.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and is_of_a_model(file.name))
    if not any(holds_weights(file.name) for file in files):
        raise UserError(f"{folder} holds no weights that mmtx reads; name a run, or a folder of `mmtx export`")
    with as_user_errors(address):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi()
        api.create_repo(address.repository, private=private or None, exist_ok=True)
        if address.revision != MAIN:
            api.create_branch(address.repository, branch=address.revision, exist_ok=True)
        there = api.model_info(address.repository, revision=address.revision)
        if private and not there.private:
            raise UserError(f"{address} is there already, and not private; make it private, or leave out --private")
        named = {file.name for file in files}
        left = [each.rfilename for each in there.siblings or () if is_of_a_model(each.rfilename)]
        done = api.create_commit(
            address.repository,
            operations=[
                *(CommitOperationAdd(file.name, str(file)) for file in files),
                *(CommitOperationDelete(name) for name in left if name not in named),
            ],
            commit_message="A model of mmtx",
            revision=address.revision,
            parent_commit=there.sha,
        )
    forget_commits()
    return Address(address.repository, done.oid)


def page(address: Address) -> str:
    """Where a browser shows it."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{address.repository}/tree/{address.revision}"
