"""The next turn of a conversation."""

import json
from pathlib import Path
from typing import Any

from mmtx.data.text.chat_template import is_message
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue
from mmtx.generation.own import rest_as_batch
from mmtx.generation.picture_in_text import with_picture
from mmtx.generation.trained import Trained
from mmtx.objectives.capabilities import Answers


def chat(
    trained: Trained,
    objective: Answers,
    *,
    messages: str,
    template: str | None = None,
    image: str | None = None,
    index: int | None = None,
    **options: Any,
) -> str:
    """The next turn of a conversation, by the chat template of a public model (objective=[next_token]).

    Args:
        trained: the model.
        objective: that writes.
        messages: a JSON list of {"role": ..., "content": ...}, or a file of one
        template: the name of the chat template, where the model has several; null: default
        image: a picture file that the conversation is about, or has at {"type": "image"}, where the set has pictures
        index: or a sample, counted from 0, of the run's test (or validation) data
        options: of the objective.

    Raises:
        UserError: these are no messages, there is no chat template, or it refuses them; or the picture is not theirs.
    """
    vocabulary = trained.learner.specs[objective.writes].vocabulary
    if not isinstance(vocabulary, TextVocabulary):
        raise InvalidValue("messages", messages, f"cannot be written: '{objective.writes}' has no vocabulary")
    ids = vocabulary.encode_chat(_read(messages), template)
    if vocabulary.picture is not None:
        if index is not None:
            raise InvalidValue("index", index, "is of models whose picture stands before the text; give image=FILE")
        batch, ids = with_picture(trained, objective.writes, vocabulary.picture, ids, image)
    else:
        batch = rest_as_batch(trained, objective.writes, image, index)
    return objective.answer(trained.learner.model, batch, trained.generator(), ids, **options)


def _read(given: str) -> list[dict[str, Any]]:
    """Raises InvalidValue for what is no list of messages."""
    is_json = given.lstrip().startswith(("[", "{"))
    try:
        messages = json.loads(given if is_json else Path(given).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValue("messages", given, f"is neither JSON nor a file that can be read: {error}") from None
    except ValueError as error:
        raise InvalidValue("messages", given, f"is not JSON: {error}") from None
    if not isinstance(messages, list) or not messages or not all(map(is_message, messages)):
        raise InvalidValue("messages", given, 'must be a list of {"role": ..., "content": ...}, at least one')
    return messages
