"""A cache of a task gives what its data give, also where examples are made in an unusual way."""

import pytest
import seqio

from hyperdecoders_jax.data import cache, eval_batches, offline
from tests.contracts.test_tasks import at_hand, folder, lengths, run_vocabulary  # noqa: F401


@pytest.fixture(autouse=True)
def _forget():
    folders = list(seqio.get_global_cache_dirs())
    yield
    seqio.set_global_cache_dirs(folders)


# Several data sets in one; several examples of a record; windows, made after the cache; JSON lines.
@pytest.mark.parametrize(
    "name", ["anli_v010", "t5_super_glue_record_v102", "mrqa_bio_asq_v100", "xsum"]
)
def test_a_cached_task_gives_the_same_examples(name, at_hand, tmp_path):  # noqa: F811
    task = seqio.TaskRegistry.get(name)
    seqio.set_global_cache_dirs([str(tmp_path)])
    with at_hand(task):
        (outcome,) = cache.write([task], str(tmp_path))
        assert outcome.status == offline.DONE, outcome
        plain, cached = (
            eval_batches.read_examples(
                task, 0, lengths(name), "test", warns=False, use_cached=use_cached
            ).examples
            for use_cached in (False, True)
        )
    assert plain
    plain, cached = (
        [str(sorted(example.items())) for example in examples] for examples in (plain, cached)
    )
    assert cached == plain
