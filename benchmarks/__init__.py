"""Benchmarks: time, FLOPs and memory of training, decoding, HyperGrid's products and the analysis.

They are part of the repository, not of the installed package. From another folder, with the package
installed or not:

    PYTHONPATH=CLONE python -m benchmarks.train_step --gin_file=experiments/demo_hyperdecoder.gin
"""
