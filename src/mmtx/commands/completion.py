"""``mmtx completion``: what a shell asks, and the scripts by which it does."""

import re
from collections.abc import Iterator

from mmtx.commands.help import HELP as COMMANDS
from mmtx.commands.tune import WAYS
from mmtx.errors import UserError

HELP = """\
usage: mmtx completion bash|zsh|fish

Prints a script by which the shell completes commands, names of groups, their options and recipes, your own in ./conf
included. To have it in every shell:

  bash  eval "$(mmtx completion bash)"      in ~/.bashrc
  zsh   eval "$(mmtx completion zsh)"       in ~/.zshrc, behind compinit
  fish  mmtx completion fish | source       in ~/.config/fish/config.fish
"""

BASH = """\
_mmtx() {
    local line=${COMP_LINE:0:COMP_POINT} found
    local word=${line##*[[:space:]]}
    COMPREPLY=()
    while IFS= read -r found; do
        [[ $found == *= || $found == *=\\[* ]] || found+=" " # what goes on has none behind it
        # bash replaces what stands behind the last = alone
        [[ $COMP_WORDBREAKS == *=* ]] && found=${found#"${word%"${word##*=}"}"}
        COMPREPLY+=("$found")
    done < <(mmtx completion words "$line" 2>/dev/null)
}
complete -o default -o nospace -F _mmtx mmtx
"""

ZSH = """\
_mmtx() {
    local -a found
    found=(${(f)"$(mmtx completion words "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -S '' -- $found; else _files; fi
}
compdef _mmtx mmtx
"""

FISH = """\
complete -c mmtx -a '(mmtx completion words (commandline -cp | string collect) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
COMMAND = re.compile(r"^  mmtx (\w+) ", re.MULTILINE)
OF_A_SWEEP = re.compile("^(launcher|sweeper)")
OF_A_RUN = ("train", "check", "tune")
"""Commands that choose from groups; others name files, which a shell completes by itself."""


def run(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "words":
        for word in words(arguments[1]):
            print(word)
    elif len(arguments) == 1 and arguments[0] in SCRIPTS:
        print(SCRIPTS[arguments[0]], end="")
    else:
        raise UserError(f"name a shell: mmtx completion {'|'.join(SCRIPTS)}")
    return 0


def words(line: str) -> list[str]:
    """What the last word of a command line may become, where that is a choice of mmtx's."""
    _, *before, word = line.split(" ") if " " in line else (line, "")
    before = [each for each in before if each]
    return sorted(each for each in _choices(before, word) if each.startswith(word))


def _choices(before: list[str], word: str) -> Iterator[str]:
    from mmtx.config.groups import NAMED_GROUPS, files_by_group

    if not before:
        yield from set(COMMAND.findall(COMMANDS))
    elif before == ["completion"]:
        yield from SCRIPTS
    elif before == ["tune"]:
        yield from WAYS
    elif before == ["list"]:
        yield from files_by_group()
    elif before[0] in OF_A_RUN:
        groups = {OF_A_SWEEP.sub(r"hydra/\1", group): options for group, options in files_by_group().items()}
        key, equals, value = word.partition("=")
        chosen = groups.get(key, [])
        if not equals:
            yield from (f"{group}=" for group in groups)
        elif key in NAMED_GROUPS or value.startswith("["):
            first = value.rpartition(",")[0] + "," if "," in value else "["
            yield from (f"{key}={first}{option}" for option in chosen)
        else:
            yield from (f"{key}={option}" for option in chosen)
