"""Tab completion: what a shell offers for the beginning of a line."""

import subprocess

import pytest

from hyperdecoders_jax.commands import completion, main

# Calls the completion as bash does when Tab is pressed at the end of each line.
DRIVER = """
{script}
for line in {lines}; do
  COMP_LINE="$line" COMP_POINT=${{#line}} COMPREPLY=()
  _hyperdecoders 2> /dev/null
  echo "${{COMPREPLY[*]}}"
done
"""


def complete(folder, *lines):
    """What bash offers for each line."""
    script = completion.script(main.make_parser(), "bash")
    quoted = " ".join(f"'{line}'" for line in lines)
    result = subprocess.run(
        ["bash", "-c", DRIVER.format(script=script, lines=quoted)],
        cwd=folder, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [set(line.split()) for line in result.stdout.split("\n")[:-1]]


def test_commands_flags_values_macros_and_files_are_completed(tmp_path):
    (tmp_path / "own_run.gin").touch()
    (tmp_path / "other.txt").touch()
    offered = complete(
        tmp_path,
        "hyperdecoders ex",
        "hyperdecoders train --model_",
        "hyperdecoders train --gin.LEARN",
        "hyperdecoders train --runner=t",
        "hyperdecoders train --gin_file=experiments/demo_hyperd",
        "hyperdecoders eval --gin_file=own",
        "hyperdecoders gin-path --gin",
    )
    assert offered == [
        {"experiments", "export"},
        {"--model_dir="},
        {"--gin.LEARNING_RATE="},
        {"t5x"},
        {"experiments/demo_hyperdecoder.gin"},
        {"own_run.gin"},
        set(),
    ]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_is_printed_and_parses(shell, capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--completion", shell])
    printed = capsys.readouterr().out
    assert all(f"\n      {name}) words=" in printed for name in main.COMMANDS)
    subprocess.run(["bash", "-n"], input=printed, text=True, check=True, timeout=60)
