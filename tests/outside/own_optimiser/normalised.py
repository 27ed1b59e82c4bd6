import torch


class Normalised(torch.optim.Optimizer):
    """Momentum, whose average is divided by its norm: updates of every matrix have a root mean square of `lr`."""

    def __init__(self, groups, lr, *, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for matrix in (p for p in group["params"] if p.grad is not None):
                state = self.state[matrix]
                if not state:
                    state["steps"], state["average"] = 0, torch.zeros_like(matrix)
                state["steps"] += 1
                state["average"].lerp_(matrix.grad, 1 - group["momentum"])
                norm = state["average"].norm().clamp(min=1e-12)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(state["average"] / norm * matrix.numel() ** 0.5 * group["lr"])
        return loss
