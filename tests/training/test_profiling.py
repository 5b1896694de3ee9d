import pytest

from hyperdecoders_jax.training.trainer import TrainerConfig
from tests.training.test_trainer import run


def traces(folder):
    return list(folder.glob("tensorboard/plugins/profile/*/*.xplane.pb"))


def test_steps_of_a_run_are_traced(tmp_path):
    run(tmp_path, profile_steps=(2, 3))
    assert len(traces(tmp_path)) == 1


def test_what_cannot_be_traced_is_told_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("no folder")
    assert run(tmp_path, profile_steps=(7, 7)).is_finished
    assert "No trace of the steps" in caplog.text


@pytest.mark.parametrize("steps", [(0, 3), (3, 2), (6, 8), 3, (1,), (1.0, 2)])
def test_steps_that_a_run_does_not_have_are_refused(steps):
    with pytest.raises(ValueError, match="profile_steps must be None or a first and a last step"):
        TrainerConfig(num_train_steps=7, profile_steps=steps)


def test_steps_before_the_one_that_a_run_continues_at_are_told(tmp_path, caplog):
    run(tmp_path, num_train_steps=3)
    run(tmp_path, profile_steps=(2, 5))
    assert "must begin after step 3, at which the run continues; got 2 to 5" in caplog.text
    assert not traces(tmp_path)
