"""What do all tests share, those of the plugins too? The list of what they measured."""

pytest_plugins = ["tests.figures"]
