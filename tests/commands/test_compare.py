"""A whole comparison of tiny models on own files: run, continued, and refused."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sys

import pytest
import seqio

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import compare as compare_lib
from hyperdecoders_jax.commands import export, main
from hyperdecoders_jax.data import cache, vocabulary
from hyperdecoders_jax.study import matching, runs, settings
from hyperdecoders_jax.trained import shared
from tests.commands import test_own_data

METHODS = [
    "--method=adapter=single_adapter,DECODER_BOTTLENECK_DIM=2",
    "--method=hyperdecoder=DECODER_BOTTLENECK_DIM=2,HYPERNETWORK_BOTTLENECK_DIM=4",
]
COMMON = """
include 'models/demo.gin'
include 'optim/adamw_linear.gin'
include 'decoding/greedy.gin'
include 'mixtures/own_data.gin'
LEARNING_RATE = 1e-2
WARMUP_STEPS = 1
"""
MACROS = {
    name: value for name, value in test_own_data.TINY.items() if not name.endswith("BOTTLENECK_DIM")
}


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("inputs", "targets"), *rows])


@pytest.fixture
def folder(tmp_path, monkeypatch, forget_configuration):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "common.gin").write_text(COMMON)
    rows = [
        (f"{word} {i}", label) for i in range(60) for word, label in (("hot", "up"), ("ice", "no"))
    ]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", rows[:20])
    yield tmp_path
    seqio.MixtureRegistry.remove("own_data")
    seqio.TaskRegistry.remove("train")


def line(*options, methods=METHODS, output="out"):
    macros = [f"--gin.{name}={value}" for name, value in MACROS.items()]
    own = ["--gin_file=common.gin", "--train_file=train.csv", "--test_file=test.csv"]
    return ["compare", *own, *methods, f"--output={output}", *macros, *options]


def compare(*options, **others):
    return main.main(line(*options, **others))


def made_of(given):
    """The comparison of a command line, before anything is trained."""
    others, gin_flags = main.split_gin_flags(given)
    return compare_lib._Command(main.make_parser().parse_args(others), gin_flags).comparison()


def test_two_files_are_compared_and_a_broken_comparison_is_continued(folder, capsys):
    assert compare("--seeds=1-2") == 0
    printed = capsys.readouterr()
    assert "4 runs (2 methods x 2 seeds), 4 to make: about" in printed.err
    assert "Equal for all methods: T5 from random weights, steps 3" in printed.err
    assert "train  accuracy" in printed.out
    assert "majority" in printed.out
    assert "TF-IDF" in printed.out
    before = (folder / "out" / "table.txt").read_text()
    assert before.splitlines()[2].split()[:3] == ["task", "metric", "n"]
    for name in ("table.md", "table.tex", "page.html", "pictures/curves.png"):
        assert (folder / "out" / name).exists()
    config = (folder / "out" / "adapter" / "seed-2" / "config.gin").read_text()
    assert "\nRANDOM_SEED = 2\n" in config

    # One run was killed before its scores stood, another before its last checkpoint did.
    kept = folder / "out" / "adapter" / "seed-1" / runs.SCORES_FILE
    time = kept.stat().st_mtime_ns
    (folder / "out" / "adapter" / "seed-2" / runs.SCORES_FILE).unlink()
    shutil.rmtree(folder / "out" / "hyperdecoder" / "seed-2")
    (folder / "out" / "runs.json.xz").unlink()
    tested = (folder / "test.csv").read_text()
    (folder / "test.csv").write_text(tested.replace("ice 3", "ice 4"))
    for seed in (2, 3):
        assert compare(f"--seeds=1,{seed}") == 2
        told = r"same names; data\.train\.test is \w+ in \S+seed-1 and \w+ in what is here now"
        assert re.search(told, capsys.readouterr().err)
    assert not (folder / "out" / "adapter" / "seed-3").exists()  # Told before it was trained.
    with pytest.MonkeyPatch.context() as patched:  # A source that cannot tell.
        patched.setattr(cache, "fingerprint", lambda source, split: None)
        assert compare("--seeds=1-2") == 2
    assert re.search(r"scored on\.train is \w+ in \S+seed-1 and", capsys.readouterr().err)
    assert not (folder / "out" / "hyperdecoder" / "seed-2").exists()  # And this one, too.
    assert not (folder / "out" / "adapter" / "seed-2" / runs.SCORES_FILE).exists()
    (folder / "test.csv").write_text(tested)
    assert compare("--seeds=1-2") == 0
    assert "4 runs (2 methods x 2 seeds), 2 to make" in capsys.readouterr().err
    assert kept.stat().st_mtime_ns == time
    after = (folder / "out" / "table.txt").read_text()
    # Seconds are of this time.
    same = [line for line in before.splitlines() if not line.startswith("seconds")]
    assert [line for line in after.splitlines() if not line.startswith("seconds")] == same

    # An export's card has the scores with their interval.
    assert export.export(str(kept.parent), str(folder / "exported")) == 0
    card = (folder / "exported" / "README.md").read_text()
    assert re.search(r"On the split `test`, .*\n\n.*interval.*\n.*\n\| train \| accuracy \| ", card)

    # Nothing is left to make on another machine, which has the small file alone and read no data.
    (folder / "there").mkdir()
    shutil.copy(folder / "out" / "runs.json.xz", folder / "there")
    vocabulary.set_run_vocabulary(None)
    assert compare("--seeds=1-2", output="there") == 0
    for name in ("table.txt", "table.json", "pictures/curves.png", "runs.json.xz"):
        here, there = ((folder / x / name).read_bytes() for x in ("out", "there"))
        assert here == there
    assert "4 finished runs are restored from runs.json.xz" in capsys.readouterr().err
    assert compare("--seeds=1-2", "--gin.TRAIN_STEPS=4", output="there") == 2
    assert "; steps 3 there and 4 here" in capsys.readouterr().err

    # Finished runs are not shown as those of data that were edited since, or of another metric.
    (folder / "test.csv").write_text(tested.replace("ice 3", "ice 4"))
    assert compare("--seeds=1-2") == 2
    assert re.search(r"data\.train\.test is .* in what is here now", capsys.readouterr().err)
    (folder / "test.csv").write_text(tested)
    assert compare("--seeds=1-2", "--metric=bleu") == 2
    assert re.search(
        r"scored by\.train is \['accuracy'\] in .* and \['bleu'\]", capsys.readouterr().err
    )
    with pytest.MonkeyPatch.context() as patched:  # Of a registered task, before it is trained.
        patched.setattr(settings, "of_data", lambda run, split: {})
        assert compare("--seeds=1-3", "--metric=bleu") == 2
    assert re.search(
        r"metrics\.train is \['accuracy'\] in \S+ and \['bleu'\] in \S+seed-3",
        capsys.readouterr().err,
    )
    assert not (folder / "out" / "adapter" / "seed-3").exists()

    # Another process leaves a run alone until it is scored.
    kept.unlink()
    taken = []

    class Others:
        def __iter__(self):
            taken.append(runs.is_taken(str(kept.parent)))
            return iter(())

    made = made_of(line("--seeds=1-2"))
    run, text = made.run("adapter", 1), made.config_text("adapter", 1)
    assert runs.make(run, text, "test", shared.Shared(), Others())
    assert taken == [True]  # Before it is trained.
    assert kept.exists()


class Stopping(io.StringIO):
    """Standard error that sends SIGTERM as soon as a run takes signals."""

    def write(self, text):
        if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().write(text)


def test_settings_are_chosen_before_the_test_is_read(folder, capsys, monkeypatch):
    write_csv(folder / "validation.csv", [("hot 1", "up"), ("ice 2", "no")] * 5)
    options = ["--validation_file=validation.csv", "--seeds=3", "--gin.EVAL_EXAMPLES=3"]
    options += ["--grid=adapter:LEARNING_RATE=1e-3,1e-2", "--grid=other:WARMUP_STEPS=1,2"]
    # Of one model, which is compiled once; two are compared above.
    methods = [METHODS[0], METHODS[0].replace("adapter=", "other=", 1)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Stopping())
        assert compare(*options, methods=methods) == 0
        assert "The comparison was stopped. The same command cont" in sys.stderr.getvalue()
    assert not (folder / "out" / "adapter").exists()
    assert compare(*options, methods=methods) == 0
    told = capsys.readouterr().err
    assert re.search(
        r"adapter: LEARNING_RATE=\S+ is chosen on validation \(LEARNING_RATE=1e-3", told
    )
    assert re.search(r"other: WARMUP_STEPS=\d is chosen on validation", told)
    table, page = ((folder / "out" / x).read_text() for x in ("table.txt", "page.html"))
    for line in re.findall(r".* is chosen on validation .*", told):
        assert f"\n{line}\n" in table
        assert f"<li>{line}</li>" in page
    for point in ("adapter/LEARNING_RATE=1e-3", "other/WARMUP_STEPS=2"):
        made = folder / "out" / "grid" / point
        assert json.loads((made / runs.SCORES_FILE).read_text())["tasks"] == {}
        assert not (made / "eval_test").exists()
    # Evaluations on the way are of a few examples, the reported one of all.
    scores = json.loads((folder / "out" / "adapter" / "seed-3" / runs.SCORES_FILE).read_text())
    assert scores["tasks"]["train"]["num_examples"] == 20


def command(folder, *options):
    """A comparison with matched widths, before anything is trained."""
    return made_of(line("--match_parameters", *options, methods=[], output=f"{folder}/out"))


def test_widths_are_matched_and_told(folder, capsys):
    widths = "ENCODER_BOTTLENECK_DIM=40,DECODER_BOTTLENECK_DIM=60"
    own = f"{METHODS[1]},ENCODER_BOTTLENECK_DIM=64"
    made = command(folder, own, f"--method=a=single_adapter,{widths}", "--baseline=a")
    told = capsys.readouterr().err
    counts = {name: matching.num_parameters(run) for name, run in made.methods.items()}
    assert counts["a"] == 100 * (2 * 16 + 1) + 2 * 16
    assert counts["hyperdecoder"] == pytest.approx(counts["a"], rel=0.01)
    chosen = matching.widths(made.methods["hyperdecoder"].model.config)
    assert f"hyperdecoder: ENCODER_BOTTLENECK_DIM = {chosen['encoder']}, not 64, to match" in told
    assert "a: " not in told
    assert list(made.choices) == told.splitlines()


def test_a_macro_of_both_stacks_is_matched_and_told_once(folder, capsys):
    own = "--method=h=hyperformer,ADAPTER_BOTTLENECK_DIM=4"
    command(folder, own, "--method=a=hyperformer,ADAPTER_BOTTLENECK_DIM=9", "--baseline=a")
    assert re.findall(r"h: ADAPTER_BOTTLENECK_DIM = \d+, not 4", capsys.readouterr().err) == [
        "h: ADAPTER_BOTTLENECK_DIM = 9, not 4"
    ]


def test_widths_that_cannot_be_matched_are_refused(folder):
    with pytest.raises(ValueError, match=r"within 1%; plain trains [\d,]+ with widths {}"):
        command(folder, METHODS[0], "--method=plain=none")


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (["decoder"], r"with LORA_RANK=10 mine trains [\d,]+ parameters, not [\d,]+, as a"),
        (
            ["encoder", "decoder"],
            r"a file of mine sets them otherwise than LORA_RANK=10: A flag must set",
        ),
    ],
)
def test_widths_that_a_file_sets_in_its_own_scope_are_refused(folder, sides, message):
    scoped = [f"{side}/config.LoraConfig.rank = 4" for side in sides]
    imported = "from hyperdecoders_jax.modeling import config"
    head = ["include 'adapters/lora.gin'", "from __gin__ import dynamic_registration", imported]
    (folder / "mine.gin").write_text("\n".join([*head, *scoped]))
    with pytest.raises(errors.UsageError, match=message):
        command(folder, "--method=a=lora,LORA_RANK=10", "--method=mine=mine.gin")


def test_a_grid_of_a_width_that_matching_sets_is_refused_before_training(folder):
    widths = "ENCODER_BOTTLENECK_DIM=40,DECODER_BOTTLENECK_DIM=60"
    options = [f"--method=a=single_adapter,{widths}", "--baseline=a", METHODS[1]]
    options += ["--validation_file=test.csv", "--grid=a:WARMUP_STEPS=1,2"]
    message = r"trained parameters as they are; got [\d,]+ with hyperdecoder:ENCODER"
    with pytest.raises(errors.UsageError, match=message):
        command(folder, *options, "--grid=hyperdecoder:ENCODER_BOTTLENECK_DIM=2,3")
    message = r"trained parameters as they are; got [\d,]+ with a:WARMUP_STEPS=1,DECODER"
    others = "--grid=hyperdecoder:WARMUP_STEPS=1,2,3,4"
    with pytest.raises(errors.UsageError, match=message):
        command(folder, *options, others, "--grid=a:DECODER_BOTTLENECK_DIM=60,3")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--baseline=typo"], "baseline must be one of the methods"),
        (["--select_on=test"], "What is reported must not have chosen anything"),
        (["--seeds=5-1"], "must rise; got '5-1'. Write 1-5"),
        (["--grid=RANDOM_SEED=1,2"], "sets RANDOM_SEED of its runs by --seeds"),
    ],
)
def test_what_is_in_error_is_told_before_a_grid_is_trained(folder, capsys, options, message):
    options = ["--validation_file=test.csv", "--grid=LEARNING_RATE=1e-3,1e-2", *options]
    assert compare(*options, methods=[METHODS[0]]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_points_of_a_grid_with_another_seed_are_refused(folder, capsys):
    scores = folder / "out/grid/adapter/WARMUP_STEPS=1" / runs.SCORES_FILE
    scores.parent.mkdir(parents=True)
    scores.write_text('{"seed": 1}')
    options = ["--validation_file=test.csv", "--grid=WARMUP_STEPS=1,2", "--seeds=2"]
    assert compare(*options, methods=[METHODS[0]]) == 2
    assert "has the seed 1, not 2. Begin --seeds with 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (["test"], ["--select_on=validation"], "got 'validation', and they have ['test', 'train']"),
        (["validation"], ["--split=test"], "got 'test', and they have ['train', 'validation']"),
    ],
)
def test_a_split_that_own_data_lack_is_refused_before_training(
    folder, capsys, files, options, message
):
    given = [f"--{name}_file=test.csv" for name in files]
    macros = [f"--gin.{name}={value}" for name, value in MACROS.items()]
    own = ["--gin_file=common.gin", "--train_file=train.csv", *given, "--output=out"]
    assert main.main(["compare", *own, METHODS[0], *macros, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method=hyperdecodr"], "Did you mean 'hyperdecoder'"),
        (["--method=a=b.gin,X="], "must be NAME or NAME=FILE.gin,MACRO=VALUE"),
        ([METHODS[0], "--split=tset"], "must have the split that is read; got 'tset'"),
        (["--method=a=none", "--method=a=lora"], "must have different names; got 'a' twice"),
        ([METHODS[0], "--baseline=b", "--match_parameters"], "--baseline must be one of"),
        ([METHODS[0], "--model_dir=x"], "compare names the folders of its runs"),
        ([METHODS[0], "--gin.RANDOM_SEED=7"], "sets RANDOM_SEED of its runs by --seeds; got RAN"),
        (["--method=a=none,EVAL_SPLIT='train'"], "by --select_on and --split; got EVAL_SPLIT="),
        (["--method=none,BATCH_SIZE=8"], "Write --method=NAME=none,BATCH_SIZE=8"),
        (["--method=none", "--gin.LORA_RANK=4"], "(Of the method none; what one method alone"),
        (["--method=a=none,LORA_RANK=4"], "(Of the method a.)"),
        ([METHODS[0], "--grid=LEARNING_RATE=1,2"], "--grid needs a split to choose on"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_told(folder, capsys, options, message):
    assert compare(methods=options) == 2
    assert message in capsys.readouterr().err
