"""What is said, as text? See `plait_speech.recognition.task`; importing this package imports nothing else."""
