"""Routing's read models, one a file: table, fold, query, route."""
