import pkgutil
import subprocess
import sys

from hyperdecoders_jax import training


def test_training_imports_neither_tensorflow_nor_seqio_nor_gin():
    names = [
        f"hyperdecoders_jax.training.{module.name}"
        for module in pkgutil.iter_modules(training.__path__)
    ]
    assert len(names) > 8
    program = (
        f"import sys, {', '.join(names)}\n"
        "print([m for m in ('tensorflow', 'seqio', 'gin', 'clu') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout == b"[]\n"
