"""Changes of a domain between two deployments: ten mistakes, and ten that are harmless."""
