"""The front door: models, algorithms, accuracy, search, command line, dashboard."""
