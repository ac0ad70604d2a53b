"""HTTP: connections, the client with its pace and retries, the pool of workers."""
