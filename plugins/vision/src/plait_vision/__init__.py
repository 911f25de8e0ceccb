"""What does the vision plugin add to Plait? See `plait_vision.plugin`; importing this package imports nothing else."""
