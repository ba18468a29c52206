"""The question of `nimclient chat` with its images, options and schema, from arguments and standard input."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nimclient.cli.failures import UsageError, in_options
from nimclient.cli.text_input import file_lines, is_terminal, piped_lines
from nimclient.errors import ConfigurationError
from nimclient.records import Image


def question_of(args: argparse.Namespace) -> str:
    """The question from arguments and standard input, separated by a blank line. UsageError without either."""
    asked: str = "" if args.question in (None, "-") else args.question.strip()
    piped = "" if is_terminal() and args.question != "-" else "\n".join(piped_lines()).strip()
    if not asked and not piped:
        raise UsageError('there is no question; ask one: nimclient chat "Why is the sky blue?"')
    return f"{asked}\n\n{piped}" if asked and piped else asked or piped


def content_of(text: str, images: Sequence[str]) -> str | list[Any]:
    """The content of the user's message: the text, and images by URL or from files. UsageError for a missing file."""
    if not images:
        return text
    try:
        return [text, *(Image(name if "://" in name else Path(name)) for name in images)]
    except OSError as error:
        raise UsageError(f"--image {error.filename}: {error.strerror}") from error
    except ConfigurationError as error:
        raise UsageError(f"--image: {in_options(str(error))}") from error


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the request: those that have a name of their own, and -o NAME=VALUE."""
    named = {"max_tokens": args.max_tokens, "temperature": args.temperature, "thinking": args.thinking}
    return named | given_options(args.option)


def given_options(pairs: Sequence[str]) -> dict[str, Any]:
    """The options of -o NAME=VALUE, a value being JSON or a text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"-o takes NAME=VALUE, such as -o top_p=0.9, not {pair!r}")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
        except RecursionError:
            raise UsageError(f"-o {name} is nested too deeply") from None
    return options


def schema_of(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """The JSON Schema in the file of --schema."""
    if args.schema is None:
        return None
    try:
        schema: Any = json.loads("\n".join(file_lines(args.schema, "--schema")))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema {args.schema} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise UsageError(f"--schema {args.schema} is not a JSON Schema, which is an object")
    return cast(dict[str, Any], schema)
