"""YAML documents of a site: `yaml_document` (values with line numbers), then `scalars` (parsers of single values)."""
