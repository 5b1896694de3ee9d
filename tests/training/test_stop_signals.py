import os
import signal

import pytest

from hyperdecoders_jax.training.stop_signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert not signals.is_stop_asked(1)
        os.kill(os.getpid(), number)
        assert signals.is_stop_asked(2)
    assert signal.getsignal(number) == before


def test_a_second_interrupt_interrupts():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.is_stop_asked(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
