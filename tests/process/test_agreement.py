"""What rank 0 finds is what all ranks have, and its error the error of all."""

import os
import socket
import subprocess
import sys

from mmtx.process.agreement import from_rank_0

RANK = """
import os
from mmtx.errors import UserError
from mmtx.process.agreement import from_rank_0

def refuse():
    raise UserError("no rank " + os.environ["RANK"])

print(from_rank_0("place", lambda: "found by " + os.environ["RANK"]))
try:
    from_rank_0("other", refuse)
except UserError as error:
    print(error)
"""


def test_a_process_alone_finds_for_itself():
    assert from_rank_0("place", lambda: "here") == "here"


def test_two_ranks_have_what_rank_0_found():
    """Also where each asks again for another thing, and where nothing is found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meet = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK], env={**meet, "RANK": rank, "LOCAL_RANK": rank}, stdout=-1, text=True
        )
        for rank in "01"
    ]
    assert [rank.communicate(timeout=180)[0] for rank in ranks] == ["found by 0\nno rank 0\n"] * 2
