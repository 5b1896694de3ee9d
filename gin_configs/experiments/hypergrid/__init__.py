"""Experiments with HyperGrid on GLUE and SuperGLUE."""
