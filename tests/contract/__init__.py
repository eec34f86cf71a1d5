"""What each contract promises, asked of every implementation."""
