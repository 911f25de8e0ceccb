"""What does Plait know of natural language? Tasks, models and readers of texts; `plugin` says what it offers."""
