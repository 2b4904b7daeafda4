"""Real servers for every test below, and the tables of the failures that some of them provoke."""

pytest_plugins = ["devkit.testing", "tests.crash.summary"]
