"""How well a learner acts: roll-outs summed up and filmed."""
