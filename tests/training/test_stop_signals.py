import os
import signal

import jax
import pytest

from hyperdecoders_jax.training.stop_signals import StopAsked, StopSignals, ended_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_asks_for_a_stop(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert not signals.is_stop_asked(1)
        os.kill(os.getpid(), number)
        assert signals.is_stop_asked(2)
    assert signal.getsignal(number) == before


def test_a_second_interrupt_interrupts():
    # A shell's job in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.is_stop_asked(1)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_nohup_goes_on_without_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.is_stop_asked(1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_several_processes_are_told_by_the_signal_that_jax_takes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    asked = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [signal.SIGTERM]


def test_what_is_around_a_run_ends_even_if_the_signal_came_in_its_last_save():
    done = []

    def make_runs():
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("saved")
        done.append("next run")

    with StopSignals() as around, around.interrupting(), pytest.raises(StopAsked):
        make_runs()
    assert done == ["saved"]


def test_a_signal_ends_a_function_which_then_returns_nothing():
    @ended_by_signals()
    def work(is_killed):
        if is_killed:
            os.kill(os.getpid(), signal.SIGTERM)
        return "done"

    before = signal.getsignal(signal.SIGTERM)
    assert [work(False), work(True), work(False)] == ["done", None, "done"]
    assert signal.getsignal(signal.SIGTERM) == before
