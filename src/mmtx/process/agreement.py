"""A text that all ranks take from rank 0, before they compute together."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

from mmtx.errors import UserError
from mmtx.process.launch import Launch, launch

REFUSED, FOUND = b"0", b"1"

GRACE = timedelta(seconds=10)
"""How long rank 0, which ends as it finds nothing, lets the others read why."""


def from_rank_0(name: str, find: Callable[[], str]) -> str:
    """What rank 0 finds. Where no launcher has started ranks, this process is rank 0.

    Args:
        name: by which it is shared, once.
        find: is called on rank 0.

    Raises:
        UserError: on rank 0 as `find` raises it; on the others the same.
    """
    here = launch()
    if here.by is None:
        return find()
    store = _store(here)
    if here.is_main:
        try:
            found = find()
        except UserError as error:
            store.set(name, REFUSED + str(error).encode())
            with suppress(RuntimeError):
                store.wait([f"{name} {rank}" for rank in range(1, here.num_ranks)], GRACE)
            raise
        store.set(name, FOUND + found.encode())
    content = bytes(store.get(name))
    store.set(f"{name} {here.rank}", "")
    if content[:1] == REFUSED:
        raise UserError(content[1:].decode())
    return content[1:].decode()


@cache
def _store(here: Launch) -> Any:
    """Texts that all ranks read, at the address where they also meet to compute: rank 0 keeps one server for both,
    which is there as long as this is."""
    from torch.distributed import rendezvous  # brings torch with it

    place = f"tcp://{here.address}:{here.port}?rank={here.rank}&world_size={here.num_ranks}"
    return next(iter(rendezvous(place)))[0]
