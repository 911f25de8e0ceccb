"""What does the speech plugin add to Plait? See `plait_speech.plugin`; importing this package imports nothing else."""
