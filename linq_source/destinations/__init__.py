"""Where rows go: what loading, settling and reading back takes, by kind of destination."""
