"""Tests with servers."""
