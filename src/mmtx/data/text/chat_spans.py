"""Which part of a rendered conversation the assistant wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmtx.data.text.chat_sandbox import marks_generation, rendered_spans
from mmtx.data.text.chat_template import ChatTemplates, Message
from mmtx.errors import UserError

Span = tuple[int, int]
"""The first character, and the one behind the last."""


def assistant_spans(templates: ChatTemplates, messages: Sequence[Message], **values: Any) -> tuple[str, list[Span]]:
    """The text of a whole conversation, and what of it the assistant wrote, in order.

    What stands between ``{% generation %}`` and ``{% endgeneration %}``, where the template has them. Else a turn is
    what the rendering of the messages up to it has more than that of those before it, where the assistant is to go on.

    Args:
        templates: the default of which renders.
        messages: with ``role`` and ``content``.
        values: more that the template reads, as JSON.

    Raises:
        UserError: the template will not render them, or has no marks and renders some message by what follows it.
    """
    name, template, given = templates.prepared(messages, None, add_generation_prompt=False, **values)
    if marks_generation(template):
        return rendered_spans(name, template, given)
    whole = templates.render(messages, add_generation_prompt=False, **values)
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    return whole, [_turn(templates, messages, number, whole, values) for number in turns]


def _turn(
    templates: ChatTemplates, messages: Sequence[Message], number: int, whole: str, values: Mapping[str, Any]
) -> Span:
    before = templates.render(messages[:number], add_generation_prompt=True, **values)
    after = templates.render(messages[: number + 1], add_generation_prompt=False, **values)
    if not (after.startswith(before) and whole.startswith(after)):
        raise UserError(
            f"the chat template 'default' renders message {number + 1} otherwise than as a part of the whole, so that "
            f"it is not known what of it the assistant wrote: mark that in the template with {{% generation %}} and "
            f"{{% endgeneration %}}, or predict all ids, data.turns=all"
        )
    return len(before), len(after)
