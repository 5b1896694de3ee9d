"""What can be compared: names, seeds, splits and data that agree; and widths that match."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest
import seqio

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import compare
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.study import comparison as comparison_lib
from hyperdecoders_jax.study import grids, matching
from hyperdecoders_jax.tasks import mixing
from hyperdecoders_jax.tasks import mixtures as _  # noqa: F401 (registers the demo)
from hyperdecoders_jax.training.trainer import BestCheckpointConfig
from tests import tiny
from tests.study import made


def test_a_run_has_the_seed_and_folder_of_its_pair(tmp_path):
    comparison = made.make_comparison(tmp_path)
    run = comparison.run("adapter", 2)
    assert (run.start.random_seed, run.data.seed, run.trainer.seed) == (2, 2, 2)
    assert run.model_dir == f"{tmp_path}/adapter/seed-2"
    assert len({comparison.folder(*pair) for pair in comparison.pairs}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": ()}, "seeds that differ; got methods"),
        ({"seeds": (1, 1)}, r"seeds \[1, 1\]"),
        ({"baseline": "adaptor"}, "Did you mean 'adapter'"),
        ({"split": "validation"}, "must not have chosen anything"),
    ],
)
def test_what_is_no_comparison_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        made.make_comparison(tmp_path, **options)


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it names a folder; got '\.\./x'"):
        comparison_lib.Comparison({"../x": made.make_run()}, (1,), str(tmp_path))


def test_methods_on_other_data_are_refused():
    run = made.make_run()
    data = dataclasses.replace(run.data, task_feature_lengths={"inputs": 9, "targets": 4})
    # Checkpoints would be chosen on other examples.
    evaluation = dataclasses.replace(run.evaluation, num_examples=3)
    for other in ({"data": data}, {"evaluation": evaluation}):
        methods = {"a": run, "b": dataclasses.replace(run, **other)}
        with pytest.raises(ValueError, match=r"on the same data, cut alike; a has .* and b has"):
            comparison_lib.on_same_data(methods)


def test_shares_that_cannot_be_told_stop_nothing_and_are_of_the_data_that_all_read():
    tasks = mixtures.leaf_tasks("demo")
    unknown = seqio.Mixture("mixed", tasks, default_rate=lambda task: {}[task.name])
    assert mixtures.known_shares(unknown, "train") is None
    mixture = seqio.Mixture("mixed", tasks, default_rate=mixing.Proportional())
    (one,) = tasks[:1]
    shares = mixtures.known_shares(mixture, "train", read_from=one)
    assert shares == {one.name: 1.0}


def test_methods_with_other_shares_are_refused():
    run = made.make_run()
    tasks = list(mixtures.leaf_tasks(run.data.mixture_or_task_name))

    def mixed(rates):
        mixture = seqio.Mixture("mixed", tasks, default_rate=rates)
        data = dataclasses.replace(run.data, mixture_or_task_name=mixture)
        return dataclasses.replace(run, data=data)

    same = {"a": mixed(mixing.Equal()), "b": mixed(lambda task: 2.0)}
    first, second = comparison_lib.on_same_data(same).values()
    assert first.data.mixture_or_task_name is second.data.mixture_or_task_name
    with pytest.raises(
        ValueError, match=r"on the same data, cut alike; a has .*Set mixture, rates"
    ):
        comparison_lib.on_same_data(same | {"b": mixed(mixing.Proportional())})


def test_widths_are_chosen_until_parameters_agree():
    model = Model(tiny.make_config("manual", "generated", emb_dim=64, mlp_dim=96, num_tasks=None))
    run = made.make_run(model=model)
    wanted = 3 * matching.num_parameters(run)
    chosen = matching.match("hyperdecoder", run, wanted)
    assert chosen.keys() == {"encoder", "decoder", "hypernetwork"}
    there = matching.num_parameters(matching.with_widths(run, chosen))
    assert abs(there - wanted) <= 0.01 * wanted
    assert matching.match("itself", run, matching.num_parameters(run)) == {}


def test_ranks_of_lora_are_widths_and_bottlenecks_only_where_there_are_some():
    def make(encoder, decoder):
        sites = {"encoder_sites": encoder, "decoder_sites": decoder}
        return made.make_run(
            model=Model(tiny.make_config("manual", "manual", num_tasks=None, **sites))
        )

    query = ("self_attention_query",)
    assert matching.widths(make(query, query).model.config) == {"rank": 2}
    both = make(("feed_forward", *query), ("after_feed_forward",))
    assert matching.widths(both.model.config) == {"encoder": 5, "rank": 2, "decoder": 3}

    lora = make(query, ("cross_attention_out",))
    chosen = matching.match("lora", lora, 20 * matching.num_parameters(lora))
    assert chosen == {"rank": 40}
    there = matching.with_widths(lora, chosen)
    assert matching.num_parameters(there) == 20 * matching.num_parameters(lora)
    assert there.model.config.decoder_adapter.lora.alpha == 3.0
    assert matching.parameter(lora.model.config, "rank") == "LoraConfig.rank"


def test_parameters_that_no_width_reaches_are_refused():
    run = made.make_run(model=Model(tiny.make_config("manual", "none", num_tasks=None)))
    with pytest.raises(ValueError, match=r"within 1%; tiny trains .* and the closest"):
        matching.match("tiny", run, 3)


def test_a_grid_takes_the_best_point_and_the_first_of_equal_ones():
    points = grids.of_methods(["A=1,2,3"], ["m"])["m"]
    values = dict(zip(points, [50.0, 70.0, 70.0], strict=True))
    best = grids.best(values, BestCheckpointConfig())
    assert best == (("A", "2"),)
    assert grids.describe(values, best, "validation").startswith("A=2 is chosen on validation (A=1")
    assert grids.best(values, BestCheckpointConfig(greater_is_better=False)) == (("A", "1"),)


def test_methods_have_one_grid_or_each_its_own():
    assert grids.of_methods(["A=1,2"], ["m", "n"])["m"] == [(("A", "1"),), (("A", "2"),)]
    own = grids.of_methods(["m:s/C.width=1,2", "n:B=3,4", "D=5"], ["m", "n"])
    assert own["m"][1] == (("s/C.width", "2"), ("D", "5"))
    assert own["n"][1] == (("B", "4"), ("D", "5"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["A="], "must be MACRO=a,b,c, or METHOD:MACRO=a,b,c, of values that differ; got 'A='"),
        (["A=1,1"], "of values that differ; got 'A=1,1'"),
        (
            ["adaptr:A=1,2"],
            r"one of \['adapter', 'n'\]; got 'adaptr:A=1,2'.*Did you mean 'adapter'",
        ),
        (["n:A=1,2"], r"equally many settings; --grid gives {'adapter': 1, 'n': 2}"),
    ],
)
def test_grids_of_unequal_budgets_or_of_nothing_are_refused(given, message):
    with pytest.raises(errors.UsageError, match=message):
        grids.of_methods(given, ["adapter", "n"])


@pytest.mark.parametrize("text", ["1-", "x", "1,,2"])
def test_seeds_that_are_none_are_told(text):
    with pytest.raises(errors.UsageError, match="must be numbers or ranges"):
        compare.parse_seeds(text)


def test_a_published_table_is_named():
    assert compare.read_published("glue")["methods"]["Hyperdecoder"]["average/"] == 86.5
    with pytest.raises(errors.UsageError, match=r"one of \['glue'\]; got 'glu'.*Did you mean"):
        compare.read_published("glu")


def test_published_numbers_are_those_of_the_experiments_headers():
    methods = compare.read_published("glue")["methods"]
    names = {
        "Hyperdecoder": "manual_generated", "single adapter": "manual_manual",
        "full fine-tuning": "none_none", "HyperFormer": "hyperformer",
    }  # fmt: skip
    folder = gin_files.package_config_folder()
    for method, name in names.items():
        header = (pathlib.Path(folder) / f"experiments/glue/glue_{name}.gin").read_text()
        shown = {}
        for key, value in methods[method].items():
            task = key.split("/")[0].removeprefix("glue_").replace("stsb", "sts-b")
            shown.setdefault(task.replace("sst2", "sst-2"), []).append(value)
        (average,) = shown.pop("average")
        assert f"average {average} (table 1)" in header
        for task, values in shown.items():
            assert re.search(f"{task} {'/'.join(map(str, values))}\\b", header, re.I), (
                method,
                task,
            )
        # The paper's average is that of the tasks' means, as ours.
        assert np.mean([np.mean(x) for x in shown.values()]) == pytest.approx(average, abs=0.06)
    assert "unverified" in "".join(methods)
