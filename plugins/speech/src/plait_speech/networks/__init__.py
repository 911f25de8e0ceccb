"""Which networks classify speech? See `tdnn` and `cnn`; importing this package imports nothing else."""
