"""When is each word said? See `plait_speech.alignment.task`; importing this package imports nothing else."""
