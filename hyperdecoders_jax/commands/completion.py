"""Tab completion: `hyperdecoders --completion bash` prints a script made from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh")
# Shells split words in their own ways, so the script reads the line itself. Bash completes what
# is behind `=`, zsh the whole word.
SCRIPT = """{preface}_hyperdecoders() {{
  local line="${{COMP_LINE:0:$COMP_POINT}}" prefix= flag= files= words=
  local word="${{line##* }}" rest="${{line#* }}"
  local command="${{rest%% *}}"
  if [[ "$line" != *" "*" "* ]]; then
    words="{commands}"
  elif [[ "$word" == --*=* ]]; then
    flag="${{word%%=*}}" word="${{word#*=}}"
    [[ -n "$ZSH_VERSION" ]] && prefix="$flag="
    case "$command $flag" in
{values}
    esac
  elif [[ "$word" == --gin.* ]]; then
    words="{macros}"
  else
    case "$command" in
{flags}
    esac
  fi
  COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "$word"))
  if [[ -n "$files" ]]; then
    local IFS=$'\\n' file
    for file in $(compgen -G "$word*"); do
      [[ -d "$file" ]] && file="$file/"
      COMPREPLY+=("$prefix$file")
    done
  fi
  return 0
}}
complete -o nospace -F _hyperdecoders hyperdecoders"""
ZSH_PREFACE = "autoload -U +X compinit bashcompinit\ncompinit -u\nbashcompinit\n"


class Print(argparse.Action):
    """`--completion SHELL`: prints the script, and ends."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(script(parser, values))
        parser.exit()


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script of a shell for all commands of `parser`."""
    from hyperdecoders_jax.commands import main

    (commands,) = (x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    flags, values = [], []
    for name, command in commands.choices.items():
        actions = [action for action in command._actions if action.option_strings]
        words = [f"{x.option_strings[-1]}{'' if x.nargs == 0 else '='}" for x in actions]
        words += ["--gin."] * main.module_of(name).TAKES_GIN
        flags.append(f'      {name}) words="{" ".join(words)}" ;;')
        values += [line for x in actions for line in _values(name, x, main.PATH_METAVARS)]
    files, macros = _gin_names()
    values.append(f'      *" --gin_file") files=1 words="{" ".join(files)}" ;;')
    return SCRIPT.format(
        preface=ZSH_PREFACE if shell == "zsh" else "",
        commands=" ".join([*commands.choices, "--help", "--version", "--completion"]),
        values="\n".join(values),
        macros=" ".join(f"--gin.{name}=" for name in macros),
        flags="\n".join(flags),
    )


def _values(command: str, action: argparse.Action, path_metavars: tuple) -> Iterator[str]:
    flag = action.option_strings[-1]
    if action.choices:
        yield f'      "{command} {flag}") words="{" ".join(map(str, action.choices))}" ;;'
    elif action.metavar in path_metavars and flag != "--gin_file":
        yield f'      "{command} {flag}") files=1 ;;'


def _gin_names() -> tuple[list[str], list[str]]:
    """The package's gin files that people name, and all macros."""
    import pathlib
    import re

    from hyperdecoders_jax.config import gin_files

    folder = gin_files.package_config_folder()
    names = gin_files.files_under(folder)
    texts = [pathlib.Path(folder, name).read_text(encoding="utf-8") for name in names]
    macros = {x for text in texts for x in re.findall(r"^([A-Z][A-Z0-9_]*) = ", text, re.M)}
    return [name for name in names if not name.startswith("runs/")], sorted(macros)
