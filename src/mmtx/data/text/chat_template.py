"""Chat templates of public models: turns of a conversation as one text, as `transformers` renders them.

A template is a program from a file that was downloaded. It runs in a sandbox (`chat_sandbox`), sees plain JSON alone,
and is never run when a model is read, only when a conversation is rendered.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtx.errors import InvalidValue

DEFAULT = "default"
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of what an assistant thought; templates read the first, those of gpt-oss the second."""

Message = Mapping[str, Any]


@dataclass(frozen=True)
class ChatTemplates:
    """The templates of a tokenizer, by name, and the spelling of its special tokens, which they write.

    Attributes:
        templates: ``{name: template}``; a file that has one calls it `DEFAULT`.
        tokens: ``{"bos_token": "<s>", ...}``.
    """

    templates: Mapping[str, str]
    tokens: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, config: Mapping[str, Any], tokens: Mapping[str, str]) -> "ChatTemplates | None":
        """Those of the files of a tokenizer: ``chat_template.jinja`` and ``additional_chat_templates/``, or
        ``chat_template.json``, as processors of pictures had it, or else of its config; None where there are none."""
        files = {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
        if (folder / "chat_template.jinja").is_file():
            files[DEFAULT] = folder / "chat_template.jinja"
        templates = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
        found = templates or _of_processor(folder / "chat_template.json") or _named(config.get("chat_template"))
        return cls(found, dict(tokens)) if found else None

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def stored(self) -> str | list[dict[str, str]]:
        """The value of ``chat_template`` in a ``tokenizer_config.json``."""
        if self.templates.keys() == {DEFAULT}:
            return self.templates[DEFAULT]
        return [{"name": name, "template": template} for name, template in self.templates.items()]

    def render(
        self, messages: Sequence[Message], name: str | None = None, *, add_generation_prompt: bool = True, **values: Any
    ) -> str:
        """The text of a conversation.

        Args:
            messages: with ``role`` and ``content``.
            name: of the template; None: `DEFAULT`.
            add_generation_prompt: the text ends where the assistant is to go on.
            values: more that the template reads, as JSON: ``tools``, ``documents``.

        Raises:
            UserError: there is no such template, or it cannot or will not render this conversation.
        """
        from mmtx.data.text.chat_sandbox import rendered

        return rendered(*self.prepared(messages, name, add_generation_prompt=add_generation_prompt, **values))

    def prepared(self, messages: Sequence[Message], name: str | None, **values: Any) -> tuple[str, str, dict[str, Any]]:
        """The name of a template, the template, and all values that it reads; as `render`."""
        name = DEFAULT if name is None else name
        if name not in self.templates:
            known = ", ".join(sorted(self.templates))
            raise InvalidValue("template", name, f"is no chat template of this model, which has {known}")
        turns = [_as_template_reads(message) for message in messages]
        given = {"messages": turns, "tools": None, "documents": None}
        return name, self.templates[name], {**given, **self.tokens, **values}


def is_message(value: object) -> bool:
    """Whether a value has a role and a content."""
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value


def _as_template_reads(message: Message) -> dict[str, Any]:
    """A message, and each part of its content, without keys that are null, which templates take for text."""
    turn = _without_nulls(message)
    if isinstance(turn.get("content"), list):
        turn["content"] = [_without_nulls(part) if isinstance(part, dict) else part for part in turn["content"]]
    thought = next((turn[key] for key in REASONING if key in turn), None)
    return turn if thought is None else {"thinking": thought, **turn, "reasoning_content": thought}


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _of_processor(file: Path) -> dict[str, str]:
    """Templates of a file of JSON, which a folder may lack."""
    return _named(json.loads(file.read_text(encoding="utf-8"))["chat_template"]) if file.is_file() else {}


def _named(stored: Any) -> dict[str, str]:
    """Templates as a ``tokenizer_config.json`` has them: none, one, or a list with names."""
    if isinstance(stored, list):
        return {each["name"]: each["template"] for each in stored}
    return {DEFAULT: stored} if isinstance(stored, str) else {}
