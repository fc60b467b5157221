"""What `benchmarks/run.py` is made of: splits, lists of experiments, runs, rows and tables."""
