import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import losses, model
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.evaluation import mrqa
from tests import tiny

# Two questions; the first has three windows, in two batches.
EXAMPLES = [{"qid": b"q1"}, {"qid": b"q1"}, {"qid": b"q\xc3\xa4"}, {"qid": b"q1"}]
TEXTS = [" Rome", "", "Köln ", "in Rome"]
LOG_LIKELIHOODS = np.array([-2.0, -0.1, -3.0, -3.0], np.float32)
NUM_TOKENS = np.array([2, 1, 3, 4])
BATCH_NUM_TOKENS = np.array([8, 8, 4, 4])


def write(folder, **changed):
    arguments = {
        "examples": EXAMPLES,
        "texts": TEXTS,
        "log_likelihoods": LOG_LIKELIHOODS,
        "num_tokens": NUM_TOKENS,
        "batch_num_tokens": BATCH_NUM_TOKENS,
    }
    mrqa.write_answers(folder, 70, **(arguments | changed))


def test_windows_are_written_by_question_with_the_originals_scores(tmp_path):
    write(tmp_path / "new")
    content = json.loads((tmp_path / "new" / "70-predicted_answers.json").read_text())
    assert list(content) == ["q1", "qä"]
    assert content["q1"] == [[" Rome", 0.25], ["", pytest.approx(0.0125)], ["in Rome", 0.75]]
    assert content["qä"] == [["Köln ", 0.75]]


def test_a_question_gets_the_likeliest_answer_per_token_of_its_own(tmp_path):
    write(tmp_path)
    # 2 / 2 against 3 / 4, though the batches' lengths would make it 2 / 8 against 3 / 4.
    content = json.loads((tmp_path / "70-answers.json").read_text())
    assert content == {"q1": "in Rome", "qä": "Köln "}


def test_a_likelihood_that_is_not_finite_is_the_worst_score(tmp_path):
    write(tmp_path, log_likelihoods=np.array([np.nan, -0.1, -np.inf, -3.0], np.float32))
    for name in ("predicted_answers", "answers"):
        text = (tmp_path / f"70-{name}.json").read_text()
        json.loads(text, parse_constant=pytest.fail)
    assert json.loads(text)["q1"] != " Rome"


def test_files_are_replaced_as_a_whole_and_nothing_else_is_left(tmp_path):
    write(tmp_path)
    write(tmp_path, texts=["Bonn"] * 4)
    assert json.loads((tmp_path / "70-answers.json").read_text())["q1"] == "Bonn"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["70-answers.json", "70-predicted_answers.json"]


def test_predictions_of_other_windows_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must have a text.*got \[3, 4, 4, 4\].*for 4 windows"):
        write(tmp_path, texts=TEXTS[:3])
    assert not list(tmp_path.iterdir())


def test_a_score_is_the_teacher_forced_likelihood_of_a_text_that_is_not_empty(tmp_path):
    tiny_model = model.Model(tiny.make_config("none"), decoding=GreedyConfig(min_len=2))
    params, batch = tiny.make_params(tiny_model), tiny.make_batch()
    decoded = jax.jit(tiny_model.predict, static_argnames="max_len")(params, batch, max_len=5)
    tokens = np.asarray(decoded.tokens[:, 0])
    num_tokens = np.sum(tokens != 0, axis=1)
    write(
        tmp_path,
        examples=[{"qid": b"a"}, {"qid": b"b"}, {"qid": b"c"}],
        texts=["x", "y", "z"],
        log_likelihoods=np.asarray(decoded.log_likelihoods[:, 0]),
        num_tokens=num_tokens,
        batch_num_tokens=[7, 7, 7],
    )
    forced = batch.replace(
        decoder_input_tokens=jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
        decoder_target_tokens=tokens,
        decoder_loss_weights=jnp.arange(5) < num_tokens[:, None],
    )
    logits = jax.jit(tiny_model.logits)(params, forced)
    scores = losses.token_log_likelihoods(logits, tokens) * forced.decoder_loss_weights
    log_likelihoods = jnp.sum(scores, axis=1)
    first = jax.nn.softmax(logits[:, 0])
    log_likelihoods -= jnp.log(1 - first[:, 1])  # Given that EOS, 1, does not come at once.
    content = json.loads((tmp_path / "70-predicted_answers.json").read_text())
    scores = [content[qid][0][1] for qid in "abc"]
    # float32 rounding; sums of up to 5 log-probabilities.
    np.testing.assert_allclose(scores, -log_likelihoods / 7, atol=1e-5)
