"""Real servers for every test below."""

pytest_plugins = ["devkit.testing"]
