"""What one rank wants all ranks to do at the end of the step."""

from __future__ import annotations

from enum import IntEnum
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1


class Alarm(IntEnum):
    """Raised by any rank (`MultimodalModule.raised`); after the next step all ranks know it."""

    TERMINATE = SIGTERM
    INTERRUPT = SIGINT
    HANG_UP = SIGHUP
    REQUEUE = SIGUSR1
    SAVE = 1000
    SAVING_FAILED = 1001
