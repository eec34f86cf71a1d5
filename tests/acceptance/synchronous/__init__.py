"""A synchronous request, arrow by arrow, on real servers: each test is named by its arrow."""
