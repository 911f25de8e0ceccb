"""Which word is said? See `plait_speech.word_recognition.task`; importing this package imports nothing else."""
