"""The contracts between the rooms and their servers, and the implementations of them."""
