"""A stack, and what is done to it."""

import random

from mmtx.data.algorithmic.task import WrittenTask

PUSHES = {"a": "0", "b": "1"}
POP = "-"


class Stack(WrittenTask):
    """The bits of a stack from the bottom up, then what is done to it: ``a`` pushes 0, ``b`` pushes 1, ``-`` pops, and
    does nothing where the stack is empty. To be written: what is on the stack then, from the top down. ``011-b=110``.

    A length is that of both together. How many bits there are at the start, all numbers equally often, and what is
    done are drawn (Delétang et al. 2022, arXiv 2207.02098).
    """

    def __init__(self) -> None:
        super().__init__("".join([*PUSHES, *PUSHES.values(), POP]))

    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        start = drawn.choices("01", k=drawn.randint(1, length))
        actions, stack = drawn.choices([*PUSHES, POP], k=length - len(start)), list(start)
        for action in actions:
            if action in PUSHES:
                stack.append(PUSHES[action])
            elif stack:
                stack.pop()
        return "".join(start + actions), "".join(reversed(stack))

    def most(self, length: int) -> int:
        return 2 * length
