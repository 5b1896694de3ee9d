"""The same model, tasks and gin files under T5X; the only place that imports T5X.

Importing anything from here without T5X is an ImportError that says how to install it.
"""

from hyperdecoders_jax.installed import t5x_install

# Here, because Python runs a package before its modules, and so before they import T5X.
t5x_install.check()
