"""A synchronous request, arrow by arrow, on servers and on a file: each test is named by its arrow.

They send to the EventService, and look at what the storages and the stream have of the component
that the arrow names. tests/unit/test_synchronous_diagram.py has the components by themselves.
"""
