"""Events and records on topics, their codec, and the topics' names and settings. No I/O."""
