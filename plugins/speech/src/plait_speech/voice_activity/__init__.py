"""Where in a recording is somebody speaking? See `task`; `trim` cuts the silence around speech away."""

from plait_speech.voice_activity.energy import trim

__all__ = ["trim"]
