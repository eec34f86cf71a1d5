"""What programs call: queries now, commands and HTTP on the same ground."""
