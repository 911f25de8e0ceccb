"""Which hidden Markov models are there? See `models` and `reference`; importing this package imports nothing else."""
