"""How does a text sound? See `task` and `espeak`; importing this package imports nothing else."""
