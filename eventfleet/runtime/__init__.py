"""What every process starts from: settings, connections, and the services made from them."""
