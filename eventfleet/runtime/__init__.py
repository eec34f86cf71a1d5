"""The start of every process: settings, connections, and the services made from them."""
