"""Walks: the functions of the package that one call enters, on memory servers.

python -m tests.walks.document_edit
python -m tests.walks.synchronous_command
python -m tests.walks.append
python -m tests.walks.followed_aggregate
"""
