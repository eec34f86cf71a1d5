"""Settings from environment variables, with their former names."""

import os

import click


def read_variable(name: str, former_name: str) -> str:
    """Return a variable's value, or that of its former name with a warning; empty when unset."""
    value = os.environ.get(name, "")
    former = os.environ.get(former_name, "")
    if value or not former or is_terminal_height(former_name, former):
        return value
    click.echo(f"{former_name} is now called {name}; please use {name}", err=True)
    return former


def is_terminal_height(name: str, value: str) -> bool:
    """Return True for LINES with a number: terminals keep their height in LINES."""
    return name == "LINES" and value.isdecimal()
