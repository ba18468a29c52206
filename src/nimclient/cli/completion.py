"""`nimclient completion`: a script that completes commands, options and their choices in bash, zsh or fish."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from nimclient.cli.arguments import commands_of, options_of

Parsers: TypeAlias = Mapping[str, argparse.ArgumentParser]

BASH = """\
_nimclient() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "$command ${{COMP_WORDS[COMP_CWORD-1]}}" in
{choices}
            *) case "$command$word" in
{options}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -o bashdefault -F _nimclient nimclient
"""
ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    commands = commands_of()
    if args.shell == "fish":
        print("\n".join(fish(commands)))
    else:
        print((ZSH if args.shell == "zsh" else "") + bash(commands), end="")
    return 0


def bash(commands: Parsers) -> str:
    """For bash, and for zsh, which runs it. What is not a command, an option or a choice is completed as a file."""
    choices: list[str] = []
    options: list[str] = []
    for name, parser in commands.items():
        flags = [flag for action in options_of(parser) for flag in action.option_strings]
        options.append(f'                {name}-*) words="{" ".join(flags)}" ;;')
        for action in options_of(parser):
            if action.choices:  # an argument is completed behind the command itself
                case = "|".join(f'"{name} {before}"' for before in action.option_strings or [name])
                choices.append(f'            {case}) words="{" ".join(map(str, action.choices))}" ;;')
    return BASH.format(commands=" ".join(commands), choices="\n".join(choices), options="\n".join(options))


def fish(commands: Parsers) -> Iterator[str]:
    """For fish: lines with a word of help for each command and option."""
    for name, parser in commands.items():
        summary = (parser.description or "").partition("\n")[0]
        yield f"complete -c nimclient -n __fish_use_subcommand -f -a {name} -d {shlex.quote(summary)}"
        for action in options_of(parser):
            words = [f"complete -c nimclient -n '__fish_seen_subcommand_from {name}'"]
            words += [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in action.option_strings]
            if action.choices:
                words.append(f"-x -a {shlex.quote(' '.join(map(str, action.choices)))}")
            elif action.nargs != 0:
                words.append("-r")
            text = (action.help or "").replace("%(default)s", str(action.default))
            yield " ".join([*words, f"-d {shlex.quote(text)}"])
