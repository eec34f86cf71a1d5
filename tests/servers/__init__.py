"""The servers that tests need: `python -m tests.servers.install` gets them."""
