"""relay/site/yaml."""
