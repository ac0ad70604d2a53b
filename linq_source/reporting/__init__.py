"""`linq-source report`: one HTML file of what the messages show, aggregated in the database."""
