"""Whole processes on real servers, seen from outside."""
