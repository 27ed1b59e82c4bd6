"""The sandbox of chat templates: the names and filters that `transformers` gives them, and no way to Python."""

import json
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from mmtx.errors import UserError


def rendered(name: str, template: str, values: Mapping[str, Any]) -> str:
    """The text that a template makes of JSON. Raises UserError, with its name, where it cannot or will not."""
    return rendered_spans(name, template, values)[0]


def rendered_spans(name: str, template: str, values: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The same, and where in it the text of each tag ``generation`` begins and ends.

    As in `transformers`, a span begins behind what has been written when its tag is reached.
    """
    writing = _Writing()
    token = _WRITING.set(writing)
    try:
        for block in _compiled(template).generate(values):
            writing.length += len(block)
            writing.blocks.append(block)
        return "".join(writing.blocks), writing.spans
    except SecurityError as error:
        raise UserError(f"the chat template '{name}' reaches out of its sandbox, and is not run: {error}") from None
    except _Refused as error:
        raise UserError(f"the chat template '{name}' refuses these messages: {error}") from None
    except Exception as error:  # whatever a program may raise
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the chat template '{name}' cannot render these messages: {reason}") from None
    finally:
        _WRITING.reset(token)


def marks_generation(template: str) -> bool:
    """Whether a template marks what an assistant writes."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


@dataclass
class _Writing:
    """A text while it is written."""

    length: int = 0
    blocks: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)


_WRITING: ContextVar[_Writing] = ContextVar("writing")


class _Refused(TemplateError):
    """What a template raises by itself."""


class _Generation(Extension):
    """The tag ``generation``, around what an assistant writes: the text within."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Any) -> str:
        text, writing = caller(), _WRITING.get()
        writing.spans.append((writing.length, writing.length + len(text)))
        return text


class _Dict:
    """What templates call ``dict``, without the attributes of a class."""

    def __call__(self, *args: Any, **values: Any) -> dict[str, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """What templates call ``namespace``; names that begin with an underscore could reach Python's own."""

    def __init__(*args: Any, **values: Any) -> None:  # so that a value may be called `self`
        self, *others = args
        given = dict(*others, **values)
        for name in given:
            _check_public(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        Namespace.__setitem__(self, name, value)


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace with {name!r}")


@cache
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json  # Jinja's own escapes what HTML would
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now, "dict": _Dict(), "namespace": _Namespace}
    return environment.from_string(template)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise _Refused(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
