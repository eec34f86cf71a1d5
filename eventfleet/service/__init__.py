"""EventService, on which programs send commands and ask for states, and waiting for stages."""
