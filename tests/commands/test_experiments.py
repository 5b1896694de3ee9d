"""`hyperdecoders experiments`: a list that words search."""

from hyperdecoders_jax.commands import main


def test_experiments_are_listed_with_what_they_are(capsys):
    assert main.main(["experiments"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line for line in lines if line and not line.startswith(" ")]
    assert names == sorted(names)
    assert "experiments/demo_hyperdecoder.gin" in names
    assert "experiments/glue/glue_manual_generated.gin" in names
    assert all(len(line) <= 100 for line in lines)
    # Behind each name comes what it is.
    for i, line in enumerate(lines):
        if line in names:
            assert lines[i + 1].startswith("    ")


def test_words_search_names_and_descriptions(capsys):
    assert main.main(["experiments", "HYPERGRID", "super_glue", "large"]) == 0
    names = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert "experiments/hypergrid/super_glue_large.gin" in names
    assert all("large" in name for name in names)
    assert main.main(["experiments", "glue", "no_such_word"]) == 2
    assert "No experiment has the words glue no_such_word." in capsys.readouterr().out


def test_experiments_of_ones_own_are_listed_too(tmp_path, capsys):
    (tmp_path / "mine.gin").write_text("# What: my own comparison,\n#   in two lines.\nA = 1\n")
    (tmp_path / "recipe.gin").write_text("A = 1\n")
    assert main.main(["experiments", "comparison", f"--gin_search_paths={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "mine.gin\n    my own comparison, in two lines.\n" in out
    assert "recipe.gin" not in out
