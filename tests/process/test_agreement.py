"""What rank 0 finds is what all ranks have, and its error the error of all."""

import multiprocessing
import os
import socket

from run_cli import fork

from mmtx.errors import UserError
from mmtx.process.agreement import from_rank_0


def find(environment, results):
    os.environ.update(environment)

    def refuse():
        raise UserError("no rank " + os.environ["RANK"])

    place = from_rank_0("place", lambda: "found by " + os.environ["RANK"])
    try:
        from_rank_0("other", refuse)
    except UserError as error:
        results.send((place, str(error)))


def test_a_process_alone_finds_for_itself():
    assert from_rank_0("place", lambda: "here") == "here"


def test_two_ranks_have_what_rank_0_found():
    """Also where each asks again for another thing, and where nothing is found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    found = []
    for rank in "01":
        result, end = multiprocessing.Pipe(duplex=False)
        fork(find, {**meet, "RANK": rank, "LOCAL_RANK": rank}, end)
        end.close()
        found.append(result)
    assert all(result.poll(180) for result in found)
    assert [result.recv() for result in found] == [("found by 0", "no rank 0")] * 2
