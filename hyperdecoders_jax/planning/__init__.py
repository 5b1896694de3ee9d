"""An experiment on a TPU slice that is described, not attached: memory, seconds, cost."""
