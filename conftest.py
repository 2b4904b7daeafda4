"""Real servers for every test below, the groups, and the tables of provoked failures."""

pytest_plugins = ["devkit.testing", "tests.crash.summary", "tests.groups"]
