"""Instance-specific adaptation of T5 for many tasks at once, in JAX."""
