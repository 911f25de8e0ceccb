"""In which mood is something said? See `plait_speech.emotion_recognition.task`; importing this package imports nothing
else."""
