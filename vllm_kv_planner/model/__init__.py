"""What is this model? Its config, its architecture, its cache layers."""
