"""HTTP: the client, the pool of workers, the listings."""
