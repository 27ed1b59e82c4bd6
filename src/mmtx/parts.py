"""What a run may freeze, or train for some steps, by words: parts of a composition, roles, and names of parameters."""

from fnmatch import fnmatchcase

from mmtx.encoded import Encoded
from mmtx.learner import Learner
from mmtx.nn.roles import known_roles

ROLE = "role:"


def patterns_of(learner: Learner, word: str) -> list[str]:
    """The patterns of names of parameters that a word stands for; a word that is neither part nor role stands for
    itself.

    Args:
        learner: whose parameters.
        word: ``image.projector``; ``image.encoder``, which is all that comes before it, the tokenizer as well;
            ``image``, all that is of a name alone; ``role:gain``; or a pattern such as ``model.backbone.*``.
    """
    if word.startswith(ROLE):
        role = word.removeprefix(ROLE)
        return [name for name, own in known_roles(learner).items() if own == role] or [word]
    return _parts(learner).get(word, [word])


def _parts(learner: Learner) -> dict[str, list[str]]:
    parts = {}
    for name in learner.model.names:
        whole = f"model.tokenizers.{name}."
        parts[name] = [f"{whole}*", f"model.type_embeddings.{name}", f"model.position_embeddings.{name}.*"]
        tokenizer = learner.model.tokenizer(name)
        if isinstance(tokenizer, Encoded):
            inner = [key for key, _ in tokenizer.named_parameters() if not key.startswith("projector.")]
            parts[f"{name}.projector"], parts[f"{name}.encoder"] = [f"{whole}projector.*"], [whole + k for k in inner]
    names = [key for key, _ in learner.named_parameters(remove_duplicate=False)]
    return {part: [p for p in patterns if any(fnmatchcase(k, p) for k in names)] for part, patterns in parts.items()}
