"""From yaml files and overrides to one checked config."""
