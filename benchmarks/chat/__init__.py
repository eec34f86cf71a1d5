"""Chat under load, with reconnects and a kill, beside a bare Redis relay."""
